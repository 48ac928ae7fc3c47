#!/bin/sh
# Importing jsonschema 4.26.0 takes seconds of processor time in a Jupyter environment.
#
# Guess before the run: `import jsonschema` takes 0.1 to 0.2 s, whatever else is installed, since
# checkers of formats are optional and looked up when a format is checked.
#
# What happens: jsonschema/_format.py imports rfc3987_syntax (1.1.0) where it is installed, to check
# "iri" and "uri-reference". On import, that package builds 39 Lark (1.3.1) parsers, one for each of its
# rules and one more, and each reads the whole grammar anew. jupyter-events asks for jsonschema[format-nongpl],
# and that brings rfc3987-syntax: so each start of a Jupyter server or of nbformat pays for parsers
# that hardly anything uses.
#
# Seen with Python 3.11: no parser and 0.1 s without rfc3987-syntax, 39 and about 2 s with it.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/environment"
install() { "$folder/environment/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }
import() {
  "$folder/environment/bin/python" - <<'END'
import sys, time
built = 0
try:
    import lark
except ImportError:
    pass
else:
    before = lark.Lark.__init__
    def counted(self, *arguments, **options):
        global built
        built += 1
        before(self, *arguments, **options)
    lark.Lark.__init__ = counted
begun = time.process_time()
import jsonschema
print(built, f"{time.process_time() - begun:.2f}", file=sys.stderr)
print(built)
END
}
install jsonschema==4.26.0
test "$(import)" -eq 0
install rfc3987-syntax==1.1.0 lark==1.3.1
test "$(import)" -eq 39
echo "as described"
