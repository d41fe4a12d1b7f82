"""Solutions that forge results in the sandbox; none may count as right. To try another forgery, add an entry."""

FORGERIES = {
    "answers on every descriptor": """
import os
for number in range(3, 64):
    for nonce in ("", "0" * 32):
        try:
            os.write(number, b"".join(f'{nonce} {i} value ["i","{x}"]\\n'.encode() for i, x in enumerate(("0x5", "0x0", "-0x2", "0xf"))))
        except OSError:
            pass
def add(a, b): return 0
""",
    "the nonce from the caller's frame": """
def add(a, b):
    payload, channel = sys._getframe(1).f_locals["payload"], sys._getframe(1).f_locals["channel"]
    for i in range(4):
        channel.sendall(f'{payload["nonce"]} {i} value ["i","0x5"]\\n'.encode())
    import os; os._exit(0)
""",
    "the nonce from the garbage collector, twice an answer": """
import gc
def add(a, b):
    [found] = [o for o in gc.get_objects() if isinstance(o, dict) and "nonce" in o and "cases" in o]
    import socket
    for o in gc.get_objects():
        if isinstance(o, socket.socket):
            o.sendall(f'{found["nonce"]} 0 value ["i","0x5"]\\n'.encode())
    return a + b
""",
    "expected values from the garbage collector": """
import gc
def add(a, b):
    seen = [o for o in gc.get_objects() if isinstance(o, (list, dict, tuple)) and "expected" in repr(o)[:5000]]
    return seen[0] if seen else 0
""",
    "a number that equals everything": """
class Int(int):
    def __eq__(self, other): return True
    __hash__ = int.__hash__
def add(a, b): return Int(5)
""",
    "a writer of values that lies": """
import astray.sandbox.inside.truth as truth
truth.write_value = lambda value: '["i","0x5"]'
def add(a, b): return 0
""",
    "a patched json": "import json\njson.dumps = lambda *a, **k: '[]'\ndef add(a, b): return 0",
    "a value that breaks the reader": "def add(a, b):\n    x = []\n    for _ in range(100000): x = [x]\n    return x",
    "a very large number": "def add(a, b): return 10 ** 100000",
    "keys that collide": "def add(a, b): return {i * (2**61 - 1): 0 for i in range(3000)}",
    "a number of 5,000 digits in place of a test's": """
import sys
def add(a, b):
    payload, channel = sys._getframe(1).f_locals["payload"], sys._getframe(1).f_locals["channel"]
    channel.sendall(f'{payload["nonce"]} {"9" * 5000} value ["i","0x5"]\\n'.encode())
    return a + b
""",
    "a value of 5,000 digits over the channel": """
import sys
def add(a, b):
    payload, channel = sys._getframe(1).f_locals["payload"], sys._getframe(1).f_locals["channel"]
    channel.sendall(f'{payload["nonce"]} 0 value {"9" * 5000}\\n{payload["nonce"]} 1 value ["i",{"9" * 5000}]\\n'.encode())
    import os; os._exit(0)
""",
    "a test's number in other digits": """
import sys
def add(a, b):
    payload, channel = sys._getframe(1).f_locals["payload"], sys._getframe(1).f_locals["channel"]
    channel.sendall(f'{payload["nonce"]} \u0661 value ["i","0x0"]\\n'.encode())
    import os; os._exit(0)
""",
    "a value that is not a number": "def add(a, b): return float('nan')",
    "text in place of a number": "def add(a, b): return str(a + b)",
    "no answer": "import os\nos._exit(0)",
    "an early end in the middle": "import os\ndef add(a, b): return a + b if a != 10 else os._exit(0)",
    "a tracer": "import sys\nsys.settrace(lambda f, e, a: None)\ndef add(a, b): return True",
    "an answer for the public tests": "def add(a, b): return {(2, 3): 5, (0, 0): 0}[a, b]",
}
