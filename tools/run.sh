#!/usr/bin/env bash
# Starts the sample origin and one edge in front of it on loopback, shows a miss
# and a hit, and says what to try. Ctrl-C stops both. Addresses and the data
# directory can be set: ORIGIN, HTTP, HTTPS, ADMIN (host:port) and DATA.
set -uo pipefail
cd "$(dirname "$0")/.."
ORIGIN=${ORIGIN:-127.0.0.1:9000} HTTP=${HTTP:-127.0.0.1:8080} HTTPS=${HTTPS:-127.0.0.1:8443}
ADMIN=${ADMIN:-127.0.0.1:8081} DATA=${DATA:-./data}

pids=()
stop() {
	trap '' INT TERM HUP
	for pid in "${pids[@]}"; do kill -TERM "$pid" 2>/dev/null; done
	wait
	exit "$1"
}
fail() { # message, log file
	echo "run: $1" >&2
	[ -z "${2:-}" ] || { echo "run: the end of $2:" >&2; tail -n 20 "$2" >&2; }
	stop 1
}
trap 'echo; echo "Stopping."; stop 0' INT TERM HUP

for entry in "ORIGIN $ORIGIN" "HTTP $HTTP" "HTTPS $HTTPS" "ADMIN $ADMIN"; do
	read -r name address <<<"$entry"
	if (exec 3<>"/dev/tcp/${address%:*}/${address##*:}") 2>/dev/null; then
		fail "something already listens on $address; stop it, or choose another address: make run $name=HOST:PORT"
	fi
done

mkdir -p "$DATA/log" || fail "cannot make $DATA/log"
bin/origin --listen "$ORIGIN" >"$DATA/log/origin.log" 2>&1 &
origin_pid=$!
bin/edge serve --origin "http://$ORIGIN" --http "$HTTP" --https "$HTTPS" --admin "$ADMIN" --data "$DATA" >"$DATA/log/edge.log" 2>&1 &
edge_pid=$!
pids=("$origin_pid" "$edge_pid")

await() { # pid, URL, log file
	for ((i = 0; i < 150; i++)); do
		kill -0 "$1" 2>/dev/null || fail "a program ended before it answered" "$3"
		[ "$(curl -s -o "$DATA/log/ready.out" -w '%{http_code}' --max-time 2 "$2")" = 200 ] && return
		sleep 0.1
	done
	fail "no answer from $2 after 15 seconds" "$3"
}
await "$origin_pid" "http://$ORIGIN/_origin/stats" "$DATA/log/origin.log"
await "$edge_pid" "http://$ADMIN/readyz" "$DATA/log/edge.log"
rm -f "$DATA/log/ready.out"

# Queries that nobody asked for before, because the data directory remembers.
stamp=$(date +%s)
echo "The same page twice, through the edge:"
echo
bin/edge get --data "$DATA" --repeat 2 "http://$HTTP/?run=$stamp" || fail "the page could not be fetched" "$DATA/log/edge.log"

get="bin/edge get"
[ "$DATA" = ./data ] || get="$get --data $DATA"
cat <<END

Running:

  http://$HTTP/
      the sample site through the edge, HTTP/1.1
  https://$HTTPS/
      the same over TLS: HTTP/1.1, HTTP/2 and HTTP/3
  http://$ORIGIN/
      the origin itself; http://$ORIGIN/_origin/ says what it can do
  http://$ADMIN/
      the operators' side; the token is in $DATA/admin.token

Try in another terminal, in brackets what Cache-Status will show:

  curl -i 'http://$HTTP/?run=$stamp'
      [edge; hit; ttl=...]
  curl -i --http2 --cacert $DATA/tls/development-ca.pem 'https://$HTTPS/?h2=$stamp'
      [edge; fwd=uri-miss; ttl=...; stored, and the next time edge; hit; ttl=...]
  $get --http3 --repeat 2 'https://$HTTPS/?h3=$stamp'
      [edge; fwd=uri-miss; ttl=...; stored, and the next time edge; hit; ttl=...]
  curl -i 'http://$HTTP/_origin/echo'
      [edge; fwd=..., every time: the origin says no-store]

Logs: $DATA/log/edge.log and $DATA/log/origin.log. Ctrl-C stops everything.
END

wait -n "$origin_pid" "$edge_pid"
fail "a program ended by itself" "$DATA/log/edge.log"
