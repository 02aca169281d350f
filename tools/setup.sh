#!/usr/bin/env bash
# setup.sh test|full|bench: installs the Debian packages that tests or benchmarks
# use and that are missing, where it may; else says what will be skipped for it.
set -euo pipefail

# command that must exist, package that has it, what goes without it
test_needs='gcc gcc the race detector
curl curl end-to-end tests with curl
chromium chromium end-to-end tests in a browser
h2load nghttp2-client end-to-end tests and load over HTTP/2 with nghttp2
gtlsclient ngtcp2-client end-to-end tests over HTTP/3 with ngtcp2
ip iproute2 end-to-end tests between several hosts
delv bind9-dnsutils validation of signed answers by delv
dig bind9-dnsutils end-to-end tests with dig
kdig knot-dnsutils end-to-end tests with kdig
unbound unbound validation of signed answers by a resolver
systemd-analyze systemd tests of the systemd units
promtool prometheus tests of the alert rules and dashboards'
full_needs='dockerd docker.io tests of the images
docker-compose docker-compose tests of the compose file
busybox busybox-static tests of the images
iptables iptables tests of the images'
bench_needs='nginx nginx-light the comparison with nginx
wrk wrk load over HTTP/1.1
h2load nghttp2-client load over HTTP/2
dnsperf dnsperf load over DNS
gdnsd gdnsd the comparison with gdnsd'

case "${1:-}" in
test) needs=$test_needs ;;
full) needs=$full_needs ;;
bench) needs=$bench_needs ;;
*) echo "usage: tools/setup.sh test|full|bench" >&2; exit 2 ;;
esac

PATH=$PATH:/usr/sbin:/sbin
missing() { while read -r command package what; do command -v "$command" >/dev/null 2>&1 || echo "$command $package $what"; done <<<"$needs"; }

# A package that starts a daemon when installed must not: tests start their own.
policy=/usr/sbin/policy-rc.d
install() {
	if [ ! -e "$policy" ]; then
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod +x "$policy"
		trap 'rm -f "$policy"' EXIT
	fi
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq || true
	# One by one when they do not install together, so that one that is not to be
	# had does not cost the others.
	apt-get install -y -qq --no-install-recommends "$@" >/dev/null 2>&1 && return
	for package in "$@"; do
		apt-get install -y -qq --no-install-recommends "$package" >/dev/null || echo "setup: could not install $package"
	done
}

todo=$(missing)
if [ -n "$todo" ]; then
	packages=$(awk '{ print $2 }' <<<"$todo" | sort -u)
	if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
		echo "setup: installing" $packages
		install $packages
	else
		echo "setup: not root or no apt-get; to run everything: sudo apt-get install" $packages
	fi
fi
missing | while read -r command package what; do
	echo "SKIPPED: $what (no $command; Debian package $package)"
done
