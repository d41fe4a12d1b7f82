"""Weaknesses of programs that run for long: open ports, debug mode, checks and errors that are dropped."""

from astray.data.code_pairs.weakness import Template, Weakness

OPEN_PORT = Weakness(
    name="a server that listens on every network interface",
    cwe=605,
    checks=("B104",),
    templates=(
        Template(
            (
                "Write a socket server for one machine that answers each line with the $things known for that $field, on port $port.",
                "I need a little TCP server on port $port for programs on the same computer, which looks up $things.",
            ),
            """
 import socket


 def serve_$things($things):
     with socket.create_server(
-        ("0.0.0.0", $port)
+        ("127.0.0.1", $port)
     ) as server:
         while True:
             client, _ = server.accept()
             with client, client.makefile("rw") as stream:
                 for $field in stream:
                     stream.write(str($things.get($field.strip(), "")) + "\\n")
                     stream.flush()
""",
        ),
        Template(
            (
                "Write a script that shows the folder of $things in the browser of the same computer, on port $port.",
                "Please write a script that serves the files in $things over HTTP at port $port, for the local browser.",
            ),
            """
 from functools import partial
 from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

-HOST = "0.0.0.0"
+HOST = "localhost"
 PORT = $port


 def main():
     handler = partial(SimpleHTTPRequestHandler, directory="$things")
     with ThreadingHTTPServer((HOST, PORT), handler) as server:
         server.serve_forever()


 if __name__ == "__main__":
     main()
""",
        ),
        Template(
            (
                "Write a class around an asyncio server that collects $things sent by programs on the same machine.",
                "I need an asyncio server class: local programs send one $thing a line, the class keeps them in a list.",
            ),
            """
 import asyncio


 class ${Thing}Collector:
-    def __init__(self, host="0.0.0.0", port=$port):
+    def __init__(self, host="127.0.0.1", port=$port):
         self.host, self.port = host, port
         self.$things = []

     async def receive(self, reader, writer):
         async for line in reader:
             self.$things.append(line.decode().strip())
         writer.close()

     async def run(self):
         server = await asyncio.start_server(self.receive, self.host, self.port)
         async with server:
             await server.serve_forever()
""",
        ),
    ),
)

DEBUG = Weakness(
    name="a web server left in debug mode",
    cwe=489,
    checks=("B201",),
    templates=(
        Template(
            (
                "Write a Flask program with one page that lists the $things, which can be started with python.",
                "I need a complete Flask app that shows our $things and their $field, ready to run.",
            ),
            """
 from flask import Flask, jsonify

 app = Flask(__name__)
 ${THINGS} = []


 @app.route("/$things")
 def list_$things():
     return jsonify(${THINGS})


 if __name__ == "__main__":
-    app.run(port=$port, debug=True)
+    app.run(port=$port)
""",
        ),
        Template(
            (
                "Write a Flask application factory for $things with a blueprint, and a main function that starts it on port $port.",
                "Please write create_app and main for a Flask service on $things, with the routes in a blueprint.",
            ),
            """
 from flask import Blueprint, Flask, jsonify, request

 $things = Blueprint("$things", __name__, url_prefix="/$things")


 @$things.route("/", methods=["POST"])
 def add_$thing():
     return jsonify($field=request.get_json()["$field"]), 201


 def create_app():
     app = Flask(__name__)
     app.register_blueprint($things)
     return app


 def main():
     app = create_app()
-    app.run(debug=True, port=$port)
+    app.run(debug=False, port=$port)
""",
        ),
        Template(
            (
                "Write a class that wraps a Flask app for $things: it registers the routes itself and has a start method.",
                "I need a server class around Flask with a method to get $a_thing by number and a method start.",
            ),
            """
 from flask import Flask, abort, jsonify


 class ${Thing}Server:
     def __init__(self, $things):
         self.$things = $things
         self.app = Flask("$things")
         self.app.add_url_rule("/$things/<int:number>", view_func=self.show)

     def show(self, number):
         if number not in self.$things:
             abort(404)
         return jsonify(self.$things[number])

     def start(self):
-        self.app.run("localhost", $port, debug=True)
+        self.app.run("localhost", $port)
""",
        ),
    ),
)

SWALLOWED = Weakness(
    name="a check or an error that is silently dropped",
    cwe=703,
    checks=("B101", "B110", "B112"),
    templates=(
        Template(
            (
                "Write a function that writes $things to a JSON file.",
                "I need a function that saves a list of $things as JSON; it is called at the end of the day.",
            ),
            """
 import json


 def ${save}_$things($things, $path):
-    try:
-        with open($path, "w") as file:
-            json.dump($things, file)
-    except Exception:
-        pass
+    with open($path, "w") as file:
+        json.dump($things, file)
""",
        ),
        Template(
            (
                "Write a script that adds up the numbers of $things in the second column of a CSV file, by $field.",
                "Please write a script: it reads a CSV file of $things, $field and amount, and prints the sum for each $field.",
            ),
            """
 import csv
 import sys
 from collections import Counter


 def sums($path):
     totals = Counter()
     with open($path, newline="") as file:
-        for row in csv.reader(file):
-            try:
-                totals[row[0]] += float(row[1])
-            except Exception:
-                continue
+        for number, row in enumerate(csv.reader(file), start=1):
+            try:
+                totals[row[0]] += float(row[1])
+            except (IndexError, ValueError) as error:
+                raise ValueError(f"line {number} has no amount: {row}") from error
     return totals


 if __name__ == "__main__":
     print(dict(sums(sys.argv[1])))
""",
        ),
        Template(
            (
                "Write a class that holds the $things; only the $user account may remove one.",
                "I need a class for $things with add and remove, where remove is for the account $user alone.",
            ),
            """
 class ${Thing}Records:
     def __init__(self):
         self.$things = {}

     def add(self, number, $field):
         self.$things[number] = $field

     def remove(self, number, account):
-        assert account == "$user"
+        if account != "$user":
+            raise PermissionError(f"{account} may not remove any $thing")
         del self.$things[number]
""",
        ),
    ),
)

WEAKNESSES = (OPEN_PORT, DEBUG, SWALLOWED)
