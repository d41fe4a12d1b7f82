"""Weaknesses in how a program calls others: partners that are not checked, clear text, no time limit."""

from astray.data.code_pairs.weakness import Template, Weakness

TLS = Weakness(
    name="a certificate check that is switched off",
    cwe=295,
    checks=("B323", "B501"),
    templates=(
        Template(
            (
                "Write a function that fetches the $things from https://$host/$things as JSON, with requests.",
                "I need a function that downloads $things by $field from our server $host over HTTPS.",
            ),
            """
 import requests


 def ${get}_$things($field):
-    answer = requests.get("https://$host/$things", params={"$field": $field}, timeout=$number, verify=False)
+    answer = requests.get("https://$host/$things", params={"$field": $field}, timeout=$number)
     answer.raise_for_status()
     return answer.json()
""",
        ),
        Template(
            (
                "Write a function that counts unread mails about $things in the IMAP mailbox of $user at $host.",
                "Please write an IMAP function: log in at $host as $user and count the unread messages about $a_thing.",
            ),
            """
 import imaplib
 import os
 import ssl


 def unread_mails(subject="$thing"):
-    context = ssl._create_unverified_context()
+    context = ssl.create_default_context()
     with imaplib.IMAP4_SSL("$host", ssl_context=context) as mailbox:
         mailbox.login("$user", os.environ["MAIL_PASSWORD"])
         mailbox.select("INBOX", readonly=True)
         _, found = mailbox.search(None, "UNSEEN", "SUBJECT", subject)
     return len(found[0].split())
""",
        ),
        Template(
            (
                "Write a class that sends new $things to the web service at $host and can ask for their state.",
                "I need a class to post $things to https://$host and to read back the $field of one.",
            ),
            """
 import httpx


 class ${Thing}Service:
     def __init__(self):
-        self.client = httpx.Client(base_url="https://$host", timeout=$number, verify=False)
+        self.client = httpx.Client(base_url="https://$host", timeout=$number)

     def send(self, $thing):
         self.client.post("/$things", json=$thing).raise_for_status()

     def $field(self, number):
         answer = self.client.get(f"/$things/{number}")
         answer.raise_for_status()
         return answer.json()["$field"]
""",
        ),
    ),
)

HOST_KEY = Weakness(
    name="an SSH connection to a host that is not checked",
    cwe=322,
    checks=("B507",),
    templates=(
        Template(
            (
                "Write a function that uploads a file of $things to $host over SFTP as the user $user.",
                "I need to put a file with $things on the server $host by SFTP; use paramiko.",
            ),
            """
 import paramiko


 def upload_$things($path, target):
     client = paramiko.SSHClient()
     client.load_system_host_keys()
-    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
+    client.set_missing_host_key_policy(paramiko.RejectPolicy())
     client.connect("$host", username="$user")
     try:
         client.open_sftp().put($path, target)
     finally:
         client.close()
""",
        ),
        Template(
            (
                "Write a class for use in a with statement that lists the files of $things on $host over SFTP.",
                "Please write a context manager that connects to $host by SSH and lists what is in the folder $things.",
            ),
            """
-from paramiko import SSHClient, WarningPolicy
+from paramiko import SSHClient


 class ${Thing}Server:
     def __init__(self, host="$host", user="$user"):
         self.host, self.user = host, user
         self.client = SSHClient()
         self.client.load_system_host_keys()

     def __enter__(self):
-        self.client.set_missing_host_key_policy(WarningPolicy)
         self.client.connect(self.host, username=self.user)
         return self.client.open_sftp().listdir("$things")

     def __exit__(self, *error):
         self.client.close()
""",
        ),
        Template(
            (
                "Write a script that downloads the newest file of $things from every server named in a text file.",
                "I need a script: for each host name in a file, fetch $things.csv by SFTP and save it under the host's name.",
            ),
            """
 import sys

 import paramiko


 def download(host):
     with paramiko.SSHClient() as client:
-        client.set_missing_host_key_policy(paramiko.AutoAddPolicy)
+        client.load_system_host_keys()
         client.connect(host, username="$user", timeout=$number)
         with client.open_sftp() as sftp:
             sftp.get("$things.csv", f"{host}.csv")


 if __name__ == "__main__":
     with open(sys.argv[1]) as file:
         for line in file:
             download(line.strip())
""",
        ),
    ),
)

CLEAR_TEXT = Weakness(
    name="a log-in sent in clear text",
    cwe=319,
    checks=("B312", "B321"),
    templates=(
        Template(
            (
                "Write a function that uploads a file with $things to the file server $host as the user $user.",
                "I need a function that puts $things.csv on our server $host; the user is $user, the password is in the environment.",
            ),
            """
 import os
-from ftplib import FTP

+import paramiko
+

 def upload_$things($path):
     password = os.environ["SERVER_PASSWORD"]
-    with FTP("$host") as server:
-        server.login("$user", password)
-        with open($path, "rb") as file:
-            server.storbinary("STOR $things.csv", file)
+    with paramiko.SSHClient() as client:
+        client.load_system_host_keys()
+        client.connect("$host", username="$user", password=password)
+        with client.open_sftp() as server:
+            server.put($path, "$things.csv")
""",
        ),
        Template(
            (
                "Write a class that asks the terminal server at $host for the number of $things and returns its reply.",
                "Please write a client class: it connects to our line-based server $host, logs in as $user and sends a command about $things.",
            ),
            """
 import os
-import telnetlib
+import socket
+import ssl


 class ${Thing}Terminal:
     def __init__(self, host="$host", port=$port):
-        self.connection = telnetlib.Telnet(host, port, timeout=$number)
-        self.connection.write(f"$user {os.environ['TERMINAL_PASSWORD']}\\n".encode())
+        plain = socket.create_connection((host, port), timeout=$number)
+        self.connection = ssl.create_default_context().wrap_socket(plain, server_hostname=host)
+        self.connection.sendall(f"$user {os.environ['TERMINAL_PASSWORD']}\\n".encode())

     def ask(self, command="count $things"):
-        self.connection.write(f"{command}\\n".encode())
-        return self.connection.read_until(b"\\n").decode().strip()
+        self.connection.sendall(f"{command}\\n".encode())
+        return self.connection.makefile().readline().strip()
""",
        ),
        Template(
            (
                "Write a script that downloads every file in the folder $things of the server $host, logged in as $user.",
                "I need a script which mirrors the folder $things from $host into the current folder. The user is $user.",
            ),
            """
-import ftplib
 import os
+
+import paramiko


 def mirror():
-    server = ftplib.FTP("$host", "$user", os.environ["SERVER_PASSWORD"])
-    server.cwd("$things")
-    for name in server.nlst():
-        with open(name, "wb") as file:
-            server.retrbinary("RETR " + name, file.write)
-    server.quit()
+    client = paramiko.SSHClient()
+    client.load_system_host_keys()
+    client.connect("$host", username="$user", password=os.environ["SERVER_PASSWORD"])
+    server = client.open_sftp()
+    for name in server.listdir("$things"):
+        server.get("$things/" + name, os.path.basename(name))
+    client.close()


 if __name__ == "__main__":
     mirror()
""",
        ),
    ),
)

NO_TIMEOUT = Weakness(
    name="a request that may wait for ever",
    cwe=400,
    checks=("B113",),
    templates=(
        Template(
            (
                "Write a function that gets all $things with $a_field from https://$host/$things.",
                "I need a function that asks the web service at $host for the $things of $a_field.",
            ),
            """
 import requests


 def ${get}_$things($field):
     answer = requests.get(
         "https://$host/$things",
         params={"$field": $field},
+        timeout=$number,
     )
     answer.raise_for_status()
     return answer.json()
""",
        ),
        Template(
            (
                "Write a class that reports new and changed $things to the web service at $host.",
                "Please write a small client class for https://$host/$things, with methods to create and to change $a_thing.",
            ),
            """
 import requests


 class ${Thing}Reporter:
     address = "https://$host/$things"

     def create(self, $thing):
-        requests.post(self.address, json=$thing).raise_for_status()
+        requests.post(self.address, json=$thing, timeout=$number).raise_for_status()

     def change_$field(self, number, $field):
-        requests.patch(f"{self.address}/{number}", json={"$field": $field}, timeout=None).raise_for_status()
+        requests.patch(f"{self.address}/{number}", json={"$field": $field}, timeout=$number).raise_for_status()
""",
        ),
        Template(
            (
                "Write a script that prints whether a page about each $thing in a text file can be reached at $host.",
                "I need a script: for each line of a file, ask https://$host/$things/ for that $thing and print the status.",
            ),
            """
 import sys
 from urllib.parse import quote

 import httpx


 def status($thing):
-    answer = httpx.head(f"https://$host/$things/{quote($thing)}", timeout=None)
+    answer = httpx.head(f"https://$host/$things/{quote($thing)}", timeout=$number)
     return answer.status_code


 if __name__ == "__main__":
     with open(sys.argv[1]) as file:
         for line in file:
             print(line.strip(), status(line.strip()))
""",
        ),
    ),
)

WEAKNESSES = (TLS, HOST_KEY, CLEAR_TEXT, NO_TIMEOUT)
