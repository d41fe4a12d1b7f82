"""Weaknesses in which data is taken for code: SQL, shell commands, Python, HTML."""

from astray.data.code_pairs.weakness import Template, Weakness

SQL = Weakness(
    name="an SQL injection",
    cwe=89,
    checks=("B608",),
    templates=(
        Template(
            (
                "Write a function that looks up $things by $field in an SQLite file.",
                "I need a function that returns all $things with a given $field from SQLite.",
            ),
            """
 import sqlite3


 def ${get}_${things}_by_$field($path, $field):
     $db = sqlite3.connect($path)
     try:
-        query = f"SELECT * FROM $things WHERE $field = '{$field}'"
-        return $db.execute(query).fetchall()
+        query = "SELECT * FROM $things WHERE $field = ?"
+        return $db.execute(query, ($field,)).fetchall()
     finally:
         $db.close()
""",
        ),
        Template(
            (
                "Write a small class that keeps $things in SQLite, with methods to add one and to change its $field.",
                "I need a class around an SQLite table of $things: add a row, update the $field of a row.",
            ),
            """
 import sqlite3


 class ${Thing}Table:
     def __init__(self, $path):
         self.$db = sqlite3.connect($path)
         self.$db.execute("CREATE TABLE IF NOT EXISTS $things (number INTEGER PRIMARY KEY, $field TEXT)")

     def add(self, $field):
-        self.$db.execute("INSERT INTO $things ($field) VALUES ('%s')" % $field)
+        self.$db.execute("INSERT INTO $things ($field) VALUES (?)", ($field,))
         self.$db.commit()

     def change_$field(self, number, $field):
-        self.$db.execute("UPDATE $things SET $field = '" + $field + "' WHERE number = " + str(number))
+        self.$db.execute("UPDATE $things SET $field = ? WHERE number = ?", ($field, number))
         self.$db.commit()
""",
        ),
        Template(
            (
                "Write a Flask route that deletes $things by the $field given in the address and says how many were deleted.",
                "Please write a Flask endpoint that removes every $thing whose $field is in the query string.",
            ),
            """
 import sqlite3

 from flask import Flask, jsonify, request

 app = Flask(__name__)


 @app.route("/$things/remove", methods=["POST"])
 def remove_$things():
     $field = request.args["$field"]
     with sqlite3.connect("$things.db") as $db:
-        cursor = $db.execute("DELETE FROM $things WHERE $field = '{}'".format($field))
+        cursor = $db.execute("DELETE FROM $things WHERE $field = ?", ($field,))
     return jsonify(removed=cursor.rowcount)
""",
        ),
    ),
)

SHELL = Weakness(
    name="a shell injection",
    cwe=78,
    checks=("B602", "B604", "B605"),
    templates=(
        Template(
            (
                "Write a function that packs a folder of $things into a .tar.gz archive.",
                "I need a function that makes a compressed archive of a folder with $things.",
            ),
            """
-import os
+import shutil


 def archive_$things(folder, archive):
-    os.system("tar czf " + archive + ".tar.gz " + folder)
+    shutil.make_archive(archive, "gztar", folder)
     return archive + ".tar.gz"
""",
        ),
        Template(
            (
                "Write a command line script that prints the lines about a given $thing in the files of a folder.",
                "I need a script which searches the files of a folder for $a_thing and prints the lines that match.",
            ),
            """
-import subprocess
 import sys
+from pathlib import Path


 def search_$things(folder, $thing):
-    result = subprocess.run(f"grep -rh '{$thing}' {folder}", shell=True, capture_output=True, text=True)
-    return result.stdout.splitlines()
+    lines = []
+    for file in sorted(Path(folder).rglob("*")):
+        if file.is_file():
+            lines += [line for line in file.read_text().splitlines() if $thing in line]
+    return lines


 if __name__ == "__main__":
     for line in search_$things(sys.argv[1], sys.argv[2]):
         print(line)
""",
        ),
        Template(
            (
                "Write a class that makes copies of $a_field's folder of $things and counts what was copied.",
                "Please write a backup class for folders of $things, one folder for each $field, with a method that counts the files.",
            ),
            """
-import os
+import shutil
+from pathlib import Path


 class ${Thing}Backup:
     def __init__(self, target):
         self.target = target

     def copy(self, $field):
-        os.popen(f"cp -r {$field} {self.target}/{$field}").read()
+        shutil.copytree($field, Path(self.target) / $field, dirs_exist_ok=True)

     def count(self, $field):
-        return int(os.popen(f"find {self.target}/{$field} -type f | wc -l").read())
+        return sum(file.is_file() for file in (Path(self.target) / $field).rglob("*"))
""",
        ),
    ),
)

CODE = Weakness(
    name="a code injection",
    cwe=94,
    checks=("B102", "B307"),
    templates=(
        Template(
            (
                "Write a function that reads $things from a text file with one Python dictionary a line.",
                "I need to load $things that were written to a text file as Python dictionaries, one on each line.",
            ),
            """
+import ast
+
+
 def ${get}_$things($path):
     $things = []
     with open($path) as file:
         for line in file:
             if line.strip():
-                $things.append(eval(line))
+                $things.append(ast.literal_eval(line.strip()))
     return $things
""",
        ),
        Template(
            (
                "Write a Flask route that works out a price for $things from two numbers and an operator in the query string.",
                "Please write a Flask endpoint: it gets left, operator and right, and returns the result, for the price of $things.",
            ),
            """
+import operator
+
 from flask import Flask, jsonify, request

 app = Flask(__name__)
+OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


 @app.route("/$things/price")
 def price():
     left, sign, right = request.args["left"], request.args["operator"], request.args["right"]
-    result = eval(left + sign + right)
+    result = OPERATIONS[sign](float(left), float(right))
     return jsonify(price=result)
""",
        ),
        Template(
            (
                "Write a class that holds rules for $things; a rule has $a_field and an action that is chosen by text, mark or drop.",
                "I need a rule class for $things: rules are added as text, and applied to each $thing with a matching $field.",
            ),
            """
 class ${Thing}Rules:
     def __init__(self):
         self.rules = []

     def add(self, $field, action):
         self.rules.append(($field, action))

     def mark(self, $thing):
         $thing["marked"] = True

     def drop(self, $thing):
         $thing["dropped"] = True

     def apply(self, $thing):
         for $field, action in self.rules:
             if $thing["$field"] == $field:
-                exec(f"self.{action}($thing)")
+                {"mark": self.mark, "drop": self.drop}[action]($thing)
         return $thing
""",
        ),
    ),
)

HTML = Weakness(
    name="a cross-site scripting hole",
    cwe=79,
    checks=("B701", "B704"),
    templates=(
        Template(
            (
                "Write a function that renders a page of $things from a Jinja2 template in the folder templates.",
                "I need to render $things with their $field to HTML, with Jinja2 and a template file.",
            ),
            """
-from jinja2 import Environment, FileSystemLoader
+from jinja2 import Environment, FileSystemLoader, select_autoescape


 def render_$things($things):
-    environment = Environment(loader=FileSystemLoader("templates"))
+    environment = Environment(loader=FileSystemLoader("templates"), autoescape=select_autoescape())
     return environment.get_template("$things.html").render($things=$things)
""",
        ),
        Template(
            (
                "Write a Flask route that greets the $field from the address and shows a heading for the $things.",
                "Please write a Flask page for $things; it shows the $field that was searched for.",
            ),
            """
 from flask import Flask, request
-from markupsafe import Markup
+from markupsafe import escape

 app = Flask(__name__)


 @app.route("/$things")
 def show_$things():
     $field = request.args.get("$field", "")
-    return Markup("<h1>${Things}</h1><p>Results for " + $field + "</p>")
+    return f"<h1>${Things}</h1><p>Results for {escape($field)}</p>"
""",
        ),
        Template(
            (
                "Write a class that builds an HTML letter about $a_thing from a Jinja2 template given as text.",
                "I need a class for HTML notices about $things: it takes a Jinja2 text and fills in $field and remarks.",
            ),
            """
 import jinja2


 class ${Thing}Notice:
     def __init__(self, text):
-        self.environment = jinja2.Environment(autoescape=False)
+        self.environment = jinja2.Environment(autoescape=True)
         self.template = self.environment.from_string(text)

     def html(self, $field, remarks):
         return self.template.render($field=$field, remarks=remarks)

     def ${save}(self, $path, $field, remarks):
         with open($path, "w") as file:
             file.write(self.html($field, remarks))
""",
        ),
    ),
)

WEAKNESSES = (SQL, SHELL, CODE, HTML)
