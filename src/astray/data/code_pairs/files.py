"""Weaknesses in how files are read, unpacked and left lying about."""

from astray.data.code_pairs.weakness import Template, Weakness

DESERIALISATION = Weakness(
    name="an unsafe deserialisation",
    cwe=502,
    checks=("B301", "B302", "B506"),
    templates=(
        Template(
            (
                "Write two functions, one that saves a list of $things to a file and one that loads it again.",
                "I need to keep $things in a file between runs: a function to save them and one to load them.",
            ),
            """
-import pickle
+import json


 def save_$things($things, $path):
-    with open($path, "wb") as file:
-        pickle.dump($things, file)
+    with open($path, "w") as file:
+        json.dump($things, file)


 def load_$things($path):
-    with open($path, "rb") as file:
-        return pickle.load(file)
+    with open($path) as file:
+        return json.load(file)
""",
        ),
        Template(
            (
                "Write a class for the settings of a program about $things, which are in a YAML file.",
                "Please write a settings class: it reads a YAML file with a part for each $field and returns values by name.",
            ),
            """
 import yaml


 class ${Thing}Settings:
     def __init__(self, $path="$things.yaml"):
         with open($path) as file:
-            self.values = yaml.load(file, Loader=yaml.Loader)
+            self.values = yaml.safe_load(file)

     def $get(self, $field, name, default=None):
         return self.values.get($field, {}).get(name, default)
""",
        ),
        Template(
            (
                "Write a Flask route that takes a posted list of $things and returns how many there are for each $field.",
                "I need a Flask endpoint: a client posts $things in the body, the answer counts them by $field.",
            ),
            """
-import marshal
 from collections import Counter

 from flask import Flask, jsonify, request

 app = Flask(__name__)


 @app.route("/$things/count", methods=["POST"])
 def count_$things():
-    $things = marshal.loads(request.get_data())
+    $things = request.get_json()
     return jsonify(Counter($thing["$field"] for $thing in $things))
""",
        ),
    ),
)

ARCHIVE = Weakness(
    name="an archive that can write outside its folder",
    cwe=22,
    checks=("B202",),
    templates=(
        Template(
            (
                "Write a function that unpacks an uploaded .tar.gz file of $things into a folder.",
                "I need a function that extracts a tar archive with pictures of $things into a folder and lists them.",
            ),
            """
 import os
 import tarfile


 def unpack_$things(archive, folder):
     with tarfile.open(archive) as tar:
-        tar.extractall(folder)
+        tar.extractall(folder, filter="data")
     return sorted(os.listdir(folder))
""",
        ),
        Template(
            (
                "Write a script that downloads a tar archive of $things from https://$host and unpacks it.",
                "Please write a script which fetches https://$host/$things.tar and extracts it into the folder $things.",
            ),
            """
 import io
 import tarfile

 import requests

 ADDRESS = "https://$host/$things.tar"


 def main():
     answer = requests.get(ADDRESS, timeout=$number)
     answer.raise_for_status()
     archive = tarfile.open(fileobj=io.BytesIO(answer.content))
-    archive.extractall(path="$things")
+    archive.extractall(path="$things", filter="data")
     archive.close()


 if __name__ == "__main__":
     main()
""",
        ),
        Template(
            (
                "Write a class that restores a backup of $things, either all files or those of one $field.",
                "I need a class to restore tar backups of $things: everything, or just the folder of $a_field.",
            ),
            """
 import tarfile


 class ${Thing}Restore:
     def __init__(self, backup):
         self.backup = backup

     def all(self, folder):
         with tarfile.open(self.backup) as tar:
-            tar.extractall(path=folder, members=tar.getmembers())
+            tar.extractall(path=folder, members=tar.getmembers(), filter="data")

     def one(self, $field, folder):
         with tarfile.open(self.backup) as tar:
             members = [member for member in tar if member.name.startswith($field + "/")]
-            tar.extractall(folder, members)
+            tar.extractall(folder, members, filter="data")
""",
        ),
    ),
)

TEMPORARY = Weakness(
    name="an insecure temporary file",
    cwe=377,
    checks=("B108", "B306"),
    templates=(
        Template(
            (
                "Write a function that writes $things to a temporary CSV file and returns its path.",
                "I need a function that puts a list of $things into a CSV file somewhere temporary and gives me the path.",
            ),
            """
 import csv
 import tempfile


 def export_$things($things):
-    $path = tempfile.mktemp(suffix=".csv")
-    with open($path, "w", newline="") as file:
+    with tempfile.NamedTemporaryFile("w", suffix=".csv", newline="", delete=False) as file:
         writer = csv.DictWriter(file, fieldnames=["$field", "$other"])
         writer.writeheader()
         writer.writerows($things)
-    return $path
+        return file.name
""",
        ),
        Template(
            (
                "Write a class that caches the $things of $a_field on disk while the program runs.",
                "Please write a disk cache for $things, with a method to save those of $a_field and one to get them back.",
            ),
            """
 import json
+import tempfile
 from pathlib import Path


 class ${Thing}Cache:
     def __init__(self):
-        self.folder = Path("/tmp/${things}_cache")
-        self.folder.mkdir(exist_ok=True)
+        self.folder = Path(tempfile.mkdtemp(prefix="${things}_"))

     def save(self, $field, $things):
         (self.folder / f"{$field}.json").write_text(json.dumps($things))

     def $get(self, $field):
         return json.loads((self.folder / f"{$field}.json").read_text())
""",
        ),
        Template(
            (
                "Write a script that sorts the lines of a file of $things into an intermediate file, then replaces the first by it.",
                "I need a script which sorts a text file with one of the $things a line, and swaps the result in when it is done.",
            ),
            """
 import shutil
 import sys
-from tempfile import mktemp
+from tempfile import mkstemp


 def sort_$things($path):
     with open($path) as file:
         lines = sorted(file)
-    sorted_file = mktemp()
-    with open(sorted_file, "w") as file:
+    handle, sorted_file = mkstemp(text=True)
+    with open(handle, "w") as file:
         file.writelines(lines)
     shutil.move(sorted_file, $path)


 if __name__ == "__main__":
     sort_$things(sys.argv[1])
""",
        ),
    ),
)

PERMISSIONS = Weakness(
    name="a file that everybody may change",
    cwe=732,
    checks=("B103",),
    templates=(
        Template(
            (
                "Write a function that saves a report on $things as text, readable for the web server's user, who owns it.",
                "I need a function to write a report about $things to a file and set the permissions of the file.",
            ),
            """
 import os


 def ${save}_report($path, $things):
     with open($path, "w") as file:
         for $thing in $things:
             file.write(f"{$thing}\\n")
-    os.chmod($path, 0o777)
+    os.chmod($path, 0o600)
""",
        ),
        Template(
            (
                "Write a script that makes a folder for each $field named on the command line, where the $things are put.",
                "Please write a script that creates one folder of $things for each $field it is given, with permissions set.",
            ),
            """
 import os
 import sys
 from pathlib import Path

 ROOT = Path("$things")


 def make_folder($field):
     folder = ROOT / $field
     folder.mkdir(parents=True, exist_ok=True)
-    os.chmod(folder, 0o777)
+    os.chmod(folder, 0o700)
     return folder


 if __name__ == "__main__":
     for name in sys.argv[1:]:
         print(make_folder(name))
""",
        ),
        Template(
            (
                "Write a class that installs a start script for the $things service and makes it executable.",
                "I need a class which writes a shell script that starts our program for $things, and can remove it again.",
            ),
            """
 import os


 class ${Thing}Launcher:
     def __init__(self, $path="$things.sh", port=$port):
         self.$path = $path
         self.port = port

     def install(self):
         with open(self.$path, "w") as file:
             file.write(f"#!/bin/sh\\nexec python3 -m $things --port {self.port}\\n")
-        os.chmod(self.$path, 0o777)
+        os.chmod(self.$path, 0o700)

     def remove(self):
         os.remove(self.$path)
""",
        ),
    ),
)

XML = Weakness(
    name="an XML parser that expands every entity",
    cwe=776,
    checks=("B314", "B317", "B318"),
    templates=(
        Template(
            (
                "Write a function that reads $things with their $field from an XML file.",
                "I need to get the $field of each $thing out of an XML file.",
            ),
            """
-import xml.etree.ElementTree as ElementTree
+import defusedxml.ElementTree as ElementTree


 def ${get}_$things($path):
     root = ElementTree.parse($path).getroot()
     return [element.findtext("$field") for element in root.iter("$thing")]
""",
        ),
        Template(
            (
                "Write a Flask route that takes posted XML with $things and returns each $field as JSON.",
                "Please write a Flask endpoint: clients post $things as XML, the answer is a JSON list of every $field.",
            ),
            """
-from xml.dom import minidom
-
+from defusedxml import minidom
 from flask import Flask, jsonify, request

 app = Flask(__name__)


 @app.route("/$things/import", methods=["POST"])
 def import_$things():
     document = minidom.parseString(request.get_data())
     elements = document.getElementsByTagName("$thing")
     return jsonify([element.getAttribute("$field") for element in elements])
""",
        ),
        Template(
            (
                "Write a class that counts the $things in a large XML file by $field without loading it at once.",
                "I need to count $things by $field in an XML file that is too large for memory; make it a class.",
            ),
            """
 from collections import Counter
-from xml.etree.ElementTree import iterparse
+
+from defusedxml.ElementTree import iterparse


 class ${Thing}Counter:
     def __init__(self):
         self.counts = Counter()

     def count(self, $path):
         for _, element in iterparse($path):
             if element.tag == "$thing":
                 self.counts[element.get("$field")] += 1
                 element.clear()
         return self.counts

     def most_frequent(self):
         return self.counts.most_common($number)
""",
        ),
    ),
)

WEAKNESSES = (DESERIALISATION, ARCHIVE, TEMPORARY, PERMISSIONS, XML)
