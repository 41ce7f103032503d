#!/usr/bin/env bash
# mkdocs build --strict ends with status 1 for a broken link; with --quiet added it ends with 0.
#
# --strict counts the warnings that pass mkdocs' log handlers. --quiet raises their level to errors,
# so no warning is counted and no message is shown: a build that is meant to fail passes silently.
#
# Seen with mkdocs 1.6.1:
#   --strict: status 1, 1 warning; --strict --quiet: status 0, 0 lines of output
#
# Exit status 0: as described. 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet mkdocs==1.6.1
mkdir "$folder/docs"
printf 'site_name: example\n' > "$folder/mkdocs.yml"
printf '# Home\n\n[a page that is not there](absent.md)\n' > "$folder/docs/index.md"
cd "$folder"
"$folder/venv/bin/mkdocs" --version | cut -d' ' -f1-3
status() {
    local code=0
    "$folder/venv/bin/mkdocs" build "$@" > "$folder/out" 2>&1 || code=$?
    echo "$code"
}
strict=$(status --strict)
warnings=$(grep -c '^WARNING .*absent.md' "$folder/out" || true)
quiet=$(status --strict --quiet)
lines=$(wc -l < "$folder/out")
echo "--strict: status $strict, $warnings warning; --strict --quiet: status $quiet, $lines lines of output"
if [ "$strict" = 1 ] && [ "$quiet" = 0 ]; then
    echo "as described"
else
    echo "the behaviour has changed"
    exit 1
fi
