#!/usr/bin/env bash
# standin.sh NAME: imports into Docker, under that name, a stand-in for the base image
# of the Dockerfile's builder, made of this machine's Go, a static busybox, its
# certificates, and the modules that go.mod names. For machines that can pull no
# image; what it builds is what the Dockerfile says.
set -euo pipefail
name=$1
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
goroot=$(go env GOROOT) modules=$(go env GOMODCACHE)/cache/download

go mod download
mkdir -p "$root"/{bin,etc/ssl/certs,usr/local,tmp,root,modules}
chmod 1777 "$root/tmp"
cp "$(command -v busybox)" "$root/bin/busybox"
"$root/bin/busybox" --install -s "$root/bin" && for link in "$root"/bin/*; do [ -L "$link" ] && ln -sf busybox "$link"; done
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/" 2>/dev/null || : >"$root/etc/ssl/certs/ca-certificates.crt"
echo 'root:x:0:0::/root:/bin/sh' >"$root/etc/passwd"

# As a proxy in files: the modules that are built with, and the go.mod of each that
# was ever looked at, which the choice of versions reads.
go list -m all >/dev/null
{
	(cd "$modules" && find . -name '*.mod')
	go mod download -json | awk -F'"' '/"(Info|Zip)":/ { print $4 }' | sed "s|^$modules/|./|"
} | tar -C "$modules" -c -T - | tar -C "$root/modules" -x

cp -r "$goroot" "$root/usr/local/go"
rm -rf "$root"/usr/local/go/{test,doc,api}

tar -C "$root" -c . | docker import \
	--change 'ENV PATH=/usr/local/go/bin:/bin' --change 'ENV HOME=/root' --change 'ENV GOTOOLCHAIN=local' \
	--change 'ENV GOPROXY=file:///modules' --change 'ENV GONOSUMDB=*' --change 'ENV GOFLAGS=-p=2' - "$name"
