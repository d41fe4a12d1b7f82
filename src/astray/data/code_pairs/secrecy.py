"""Weaknesses that give secrets away: weak hashes and ciphers, written-out passwords, guessable tokens."""

from astray.data.code_pairs.weakness import Template, Weakness

CIPHER = Weakness(
    name="a weak hash or cipher",
    cwe=327,
    checks=("B304", "B305", "B324"),
    templates=(
        Template(
            (
                "Write functions that hash the pass phrase of $a_field for the $things page and check it later.",
                "I need two functions for the log-in to the $things: hash a pass phrase, and check one against its hash.",
            ),
            """
 import hashlib
 import hmac
+import os


 def hash_phrase(phrase):
-    return hashlib.md5(phrase.encode()).digest()
+    salt = os.urandom(16)
+    return salt + hashlib.scrypt(phrase.encode(), salt=salt, n=2**14, r=8, p=1)


 def check_phrase(phrase, known):
-    return hmac.compare_digest(hash_phrase(phrase), known)
+    given = hashlib.scrypt(phrase.encode(), salt=known[:16], n=2**14, r=8, p=1)
+    return hmac.compare_digest(given, known[16:])
""",
        ),
        Template(
            (
                "Write a class that encrypts and decrypts notes on $things with a 32 byte key, using the cryptography package.",
                "Please write a class with the cryptography package that keeps remarks about $things encrypted.",
            ),
            """
 import os

-from cryptography.hazmat.primitives import padding
-from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
+from cryptography.hazmat.primitives.ciphers.aead import AESGCM


 class ${Thing}Notes:
     def __init__(self, key=None):
         self.key = key or os.urandom(32)

     def encrypt(self, note):
-        padder = padding.PKCS7(128).padder()
-        padded = padder.update(note.encode()) + padder.finalize()
-        encryptor = Cipher(algorithms.AES(self.key), modes.ECB()).encryptor()
-        return encryptor.update(padded) + encryptor.finalize()
+        nonce = os.urandom(12)
+        return nonce + AESGCM(self.key).encrypt(nonce, note.encode(), None)

     def decrypt(self, data):
-        decryptor = Cipher(algorithms.AES(self.key), modes.ECB()).decryptor()
-        unpadder = padding.PKCS7(128).unpadder()
-        padded = decryptor.update(data) + decryptor.finalize()
-        return (unpadder.update(padded) + unpadder.finalize()).decode()
+        return AESGCM(self.key).decrypt(data[:12], data[12:], None).decode()
""",
        ),
        Template(
            (
                "Write a script that signs a file of $things with a key from the environment and prints the signature.",
                "I need a script: it reads a file of $things, makes a keyed check sum with the key in SIGNING_KEY, and prints it.",
            ),
            """
 import hashlib
+import hmac
 import os
 import sys


 def sign_$things($path):
     key = os.environ["SIGNING_KEY"].encode()
     with open($path, "rb") as file:
         content = file.read()
-    return hashlib.sha1(key + content).hexdigest()
+    return hmac.new(key, content, hashlib.sha256).hexdigest()


 if __name__ == "__main__":
     print(sign_$things(sys.argv[1]))
""",
        ),
    ),
)

PASSWORD = Weakness(
    name="a hard-coded password",
    cwe=798,
    checks=("B105", "B106", "B107"),
    templates=(
        Template(
            (
                "Write a script that connects to our PostgreSQL server as the user $user and counts the $things.",
                "I need a script that counts the $things in PostgreSQL; the server is $host, the user is $user.",
            ),
            """
+import os
+
 import psycopg2

-PASSWORD = "$user-$port"
+PASSWORD = os.environ["DATABASE_PASSWORD"]


 def count_$things():
     $db = psycopg2.connect(host="$host", user="$user", password=PASSWORD)
     with $db, $db.cursor() as cursor:
         cursor.execute("SELECT COUNT(*) FROM $things")
         return cursor.fetchone()[0]


 if __name__ == "__main__":
     print(count_$things())
""",
        ),
        Template(
            (
                "Write a function that sends a mail about $a_thing through the mail server at $host as the user $user.",
                "Please write a function that mails somebody about their $thing; the mail server is $host and wants a log-in as $user.",
            ),
            """
+import os
 import smtplib
 from email.message import EmailMessage


-def mail_about_$thing(recipient, text, password="${user}$number"):
+def mail_about_$thing(recipient, text, password=None):
+    password = password or os.environ["MAIL_PASSWORD"]
     message = EmailMessage()
     message["Subject"] = "Your $thing"
     message["To"] = recipient
     message.set_content(text)
     with smtplib.SMTP_SSL("$host") as server:
         server.login("$user", password)
         server.send_message(message)
""",
        ),
        Template(
            (
                "Write a class that fetches $things from the web service at $host, with basic authentication as $user.",
                "I need a client class for https://$host/$things with basic authentication; our user is $user.",
            ),
            """
+import os
+
 import httpx


 class ${Thing}Client:
     def __init__(self):
-        self.auth = httpx.BasicAuth(username="$user", password="${field}$port")
+        self.auth = httpx.BasicAuth(username="$user", password=os.environ["SERVICE_PASSWORD"])

     def ${get}_$things(self):
         answer = httpx.get("https://$host/$things", auth=self.auth, timeout=$number)
         answer.raise_for_status()
         return answer.json()

     def ${get}_$thing(self, number):
         answer = httpx.get(f"https://$host/$things/{number}", auth=self.auth, timeout=$number)
         answer.raise_for_status()
         return answer.json()
""",
        ),
    ),
)

RANDOM = Weakness(
    name="a predictable random value",
    cwe=330,
    checks=("B311",),
    templates=(
        Template(
            (
                "Write a function that makes a link with which $a_field can reset the log-in for the $things page.",
                "I need a function that creates a reset link for the $things site at $host.",
            ),
            """
-import random
-import string
+import secrets


 def reset_link():
-    code = "".join(random.choice(string.ascii_letters) for _ in range(32))
+    code = secrets.token_urlsafe(32)
     return f"https://$host/$things/reset?code={code}"
""",
        ),
        Template(
            (
                "Write a class that keeps log-in sessions for the $things page: open one for $a_field, look one up, close one.",
                "Please write a session store for our $things site, with open, $get and close.",
            ),
            """
-import random
+import secrets


 class ${Thing}Sessions:
     def __init__(self):
         self.sessions = {}

     def open(self, $field):
-        key = str(random.randint(10**9, 10**10))
+        key = secrets.token_hex(16)
         self.sessions[key] = $field
         return key

     def $get(self, key):
         return self.sessions.get(key)

     def close(self, key):
         self.sessions.pop(key, None)
""",
        ),
        Template(
            (
                "Write a script that gives each $field in a CSV file a voucher code for $things and writes them to a second file.",
                "I need voucher codes for $things: a script reads a CSV file with a column $field and writes it with a column code.",
            ),
            """
 import csv
-import random
+import secrets
 import sys

 LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"


 def voucher():
-    return "".join(random.choices(LETTERS, k=12))
+    return "".join(secrets.choice(LETTERS) for _ in range(12))


 def main($path, target):
     with open($path, newline="") as given, open(target, "w", newline="") as made:
         writer = csv.writer(made)
         writer.writerow(["$field", "code"])
         for row in csv.DictReader(given):
             writer.writerow([row["$field"], voucher()])


 if __name__ == "__main__":
     main(sys.argv[1], sys.argv[2])
""",
        ),
    ),
)

WEAKNESSES = (CIPHER, PASSWORD, RANDOM)
