#!/usr/bin/env bash
# fuzz.sh GO TIME: runs every fuzz target of the module for TIME, one by one.
set -euo pipefail
go=${1:-go} time=${2:-10s} ran=0
for package in $("$go" list ./...); do
	dir=$("$go" list -f '{{.Dir}}' "$package")
	for target in $(grep -hoE '^func Fuzz[A-Za-z0-9_]*' "$dir"/*_test.go 2>/dev/null | awk '{ print $2 }' | sort -u); do
		echo "== $package $target"
		"$go" test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$package"
		ran=$((ran + 1))
	done
done
echo "fuzz: $ran targets ran $time each"
