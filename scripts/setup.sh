#!/usr/bin/env bash
# Makes .venv at the root of the checkout from requirements.lock; does nothing when
# that is already done. quickstart and test call it; it needs no call of its own.
#
#   ./scripts/setup.sh [--docs]
#
# --docs                   adds what builds the site and runs the notebooks, from
#                          requirements-docs.lock
# PYTHON=/path/to/python   use this interpreter (3.11 to 3.13)
#
# Ends with status 2 and one sentence when it cannot.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
venv="$root/.venv"
lock="$root/requirements.lock"
docs_lock="$root/requirements-docs.lock"
log="$venv/setup.log"

fail() {
  printf 'scalepred: %s\n' "$1" >&2
  exit 2
}

# Prints "3.12 yes|no" (can it make environments with pip?) if the command named runs
# and is a Python; a command may exist and still not run (the shims of pyenv).
describe() {
  "$1" -c '
import sys
try:
    import ensurepip, venv
    able = "yes"
except ImportError:
    able = "no"
print("%d.%d %s" % (sys.version_info[0], sys.version_info[1], able))
' 2>/dev/null
}

# Sets `python` and `version`, or fails.
find_python() {
  local candidates=(python3.13 python3.12 python3.11 python3)
  local found="" without_venv="" candidate description
  python=""
  if [[ -n "${PYTHON:-}" ]]; then candidates=("$PYTHON"); fi
  for candidate in "${candidates[@]}"; do
    description="$(describe "$candidate")" || continue
    case "$description" in
      "3.11 "* | "3.12 "* | "3.13 "*)
        if [[ "$description" == *" yes" || "$installer" == uv ]]; then
          python="$candidate" version="${description% *}"
          return
        fi
        without_venv="${without_venv:-$candidate ${description% *}}"
        ;;
      *) found="$found, $candidate is ${description% *}" ;;
    esac
  done
  if [[ -n "$without_venv" ]]; then
    fail "${without_venv% *} has no venv module: install it (Debian, Ubuntu: apt install python${without_venv#* }-venv), or set PYTHON to a Python 3.11 to 3.13 that has it."
  elif [[ -n "${PYTHON:-}" ]]; then
    fail "PYTHON=$PYTHON ${found:+(}${found#, }${found:+) }is no Python 3.11 to 3.13 that runs: set PYTHON to one, or unset it to have one looked for."
  fi
  fail "needs Python 3.11 to 3.13 and found ${found:+only }${found#, }${found:-none}: install one (python.org, apt, brew, or: uv python install 3.12), or set PYTHON to its path."
}

# Runs the installer's command into the log; on failure says what to do.
install() {
  local from="$1"
  shift
  if "$@" >>"$log" 2>&1; then return; fi
  local last
  last="$(grep -v '^[[:space:]]*$' "$log" | tail -n 1 | sed 's/^[[:space:]]*//')" || true
  fail "the packages of ${from##*/} could not be installed ($last): check the connection, or name a mirror in PIP_INDEX_URL (UV_DEFAULT_INDEX with uv), then run this again; all that was said is in .venv/setup.log."
}

# Installs the exact versions of a lock, from wheels only.
install_lock() {
  local pip=("$venv/bin/python" -m pip --disable-pip-version-check) into=()
  if [[ "$installer" == uv ]]; then pip=(uv pip) into=(--python "$venv/bin/python"); fi
  install "$1" "${pip[@]}" install ${into[@]+"${into[@]}"} \
    --require-hashes --only-binary :all: -r "$1"
}

# The stamp is written last, so an environment with it is whole. It holds what the
# environment was made from and where: environments cannot be moved.
is_made() {
  local made_from="" made_with=""
  [[ -f "$stamp" && -x "$venv/bin/python" ]] || return 1
  { read -r made_from && read -r made_with; } <"$stamp" || true
  [[ "$made_from" == "$contents" ]] || return 1
  [[ -n "${PYTHON:-}" ]] || return 0
  find_python
  [[ "$made_with" == "$version" ]]
}

make_venv() {
  find_python
  echo "Making .venv with Python $version and $installer (once, about a minute) ..."
  rm -rf "$venv"
  if [[ "$installer" == uv ]]; then
    mkdir "$venv" && : >"$log"
    uv venv --quiet --allow-existing --no-project --python "$python" "$venv" 2>>"$log" ||
      fail "uv could not make .venv ($(tail -n 1 "$log")): remove uv from the PATH to use pip, or set PYTHON to another Python 3.11 to 3.13."
  else
    "$python" -m venv "$venv" >/dev/null ||
      fail "$python could not make .venv: install its venv module (Debian, Ubuntu: apt install python$version-venv), or set PYTHON to another Python 3.11 to 3.13."
  fi
  install_lock "$lock"
  # scalepred itself, from this checkout; its build backend is in the lock.
  install "$lock" "$venv/bin/python" -m pip --disable-pip-version-check install \
    --no-index --no-deps --no-build-isolation --editable "$root"
  # Where Python may not keep what it compiled (PYTHONDONTWRITEBYTECODE, as in many
  # containers), or uv left it for later, every command would start seconds later. Some
  # packages carry files of other Pythons, so it never quite succeeds.
  "$venv/bin/python" -m compileall -q -j 0 "$venv/lib" "$root/scalepred" >>"$log" 2>&1 ||
    true
  printf '%s\n%s\n' "$contents" "$version" >"$stamp.part"
  mv "$stamp.part" "$stamp"
}

# Adds the packages of the site; their lock keeps the versions of the other one.
add_docs() {
  local contents made_from=""
  contents="$(cksum <"$docs_lock")"
  if [[ -f "$docs_stamp" ]]; then made_from="$(<"$docs_stamp")"; fi
  if [[ "$made_from" == "$contents" ]]; then return; fi
  echo "Adding the packages of the site to .venv (once, about half a minute) ..."
  install_lock "$docs_lock"
  printf '%s\n' "$contents" >"$docs_stamp.part"
  mv "$docs_stamp.part" "$docs_stamp"
}

wants_docs=""
case "$*" in
  "") ;;
  --docs) wants_docs=yes ;;
  *) fail "setup.sh $*: takes --docs or nothing." ;;
esac
installer=pip
if uv --version >/dev/null 2>&1; then installer=uv; fi
contents="$(cat "$lock" "$root/pyproject.toml" | cksum) $root"
stamp="$venv/.made-from"
docs_stamp="$venv/.docs-made-from" # goes with .venv when that is made again
trap 'exit 130' INT                # not a failure of the installer
is_made || make_venv
if [[ -n "$wants_docs" ]]; then add_docs; fi
