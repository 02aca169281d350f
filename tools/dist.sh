#!/usr/bin/env bash
# dist.sh GO VERSION: tarballs of what is installed, for each architecture. Times,
# owners and order in them are fixed, so that the same source gives the same bytes.
set -euo pipefail
go=$1 version=$2
cd "$(dirname "$0")/.."
mkdir -p dist
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for arch in ${ARCHES:-amd64 arm64}; do
	name=edge-$version
	rm -rf "${work:?}/$name"
	mkdir -p "$work/$name"
	for program in edge origin; do
		CGO_ENABLED=0 GOOS=linux GOARCH=$arch "$go" build -trimpath -buildvcs=false \
			-ldflags "-s -w -buildid= -X main.version=$version" -o "$work/$name/$program" "./cmd/$program"
	done
	cp -r README.md CHANGELOG.md LICENSE NOTICE docs deploy "$work/$name/"
	rm -rf "$work/$name/deploy/test"
	tar -C "$work" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=go=rX,u+rw,a-s -c "$name" | gzip -n9 >"dist/$name-linux-$arch.tar.gz"
	echo "dist/$name-linux-$arch.tar.gz"
done
