#!/bin/sh
# Install by the system's package manager what the tests need and pip cannot bring, where it is
# absent: Chromium for the browser tests, PgBouncer for those behind a pooler, and what C is compiled
# with, as the tests are of the package as it is where it could be compiled.
set -eu
PATH=$PATH:/usr/sbin:/usr/local/sbin  # where Debian puts daemons; not in every user's path

there() {
  for name; do
    if [ -n "$name" ] && command -v "$name" >/dev/null 2>&1; then return 0; fi
  done
  return 1
}

missing=
there "${TASKWIDGETS_CHROMIUM:-}" chromium chromium-browser google-chrome || missing=chromium
there pgbouncer || missing="$missing pgbouncer"
there cc gcc clang || missing="$missing gcc"
has_headers='import os, sysconfig
raise SystemExit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))'
"${PYTHON:-python3}" -c "$has_headers" || missing="$missing python3-dev"
if [ -z "$missing" ]; then exit 0; fi

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"
  elif command -v sudo >/dev/null 2>&1; then sudo "$@"
  else
    echo "the tests need $missing, and installing takes root: $*" >&2
    echo "Install it (a browser may be named in TASKWIDGETS_CHROMIUM), and try again." >&2
    exit 1
  fi
}

echo "installing for the tests: $missing"
# The list of packages, a word each.
# shellcheck disable=SC2086
if command -v apt-get >/dev/null 2>&1; then
  # Debian starts a daemon as soon as it is installed; the tests start one of their own.
  if there pgbouncer; then was_there=yes; else was_there=no; fi
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y $missing >/dev/null
  if [ "$was_there" = no ] && [ -d /run/systemd/system ]; then
    as_root systemctl disable --now --quiet pgbouncer
  fi
elif command -v dnf >/dev/null 2>&1; then
  as_root dnf install -q -y $(echo "$missing" | sed s/python3-dev/python3-devel/)
elif command -v pacman >/dev/null 2>&1; then
  as_root pacman -S --noconfirm $missing
elif command -v brew >/dev/null 2>&1; then
  for package in $missing; do
    case $package in
      chromium) brew install --cask chromium ;;
      *) brew install "$package" ;;
    esac
  done
else
  echo "install it, and try again: $missing" >&2
  exit 1
fi
