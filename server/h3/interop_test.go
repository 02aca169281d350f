package h3

import (
	"context"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// TestGTLSClient is another people's QUIC and HTTP/3: ngtcp2 and nghttp3.
func TestGTLSClient(t *testing.T) {
	program, err := exec.LookPath("gtlsclient")
	if err != nil {
		t.Skip("gtlsclient is not installed: apt-get install ngtcp2-client")
	}
	e := start(t, setup{handler: reading, early: true})
	dir := t.TempDir()
	session := []string{"--session-file=" + dir + "/session", "--tp-file=" + dir + "/parameters", "--timeout=1s"}
	get(t, e.client(), "/100000")
	for _, tt := range []struct {
		name, path string
		args       []string
		want       []string
	}{
		{"a hit, several times", "/100000", []string{"--nstreams=5"}, []string{"[:status: 200]", "[content-length: 100000]", "; hit"}},
		{"a miss", "/10000", nil, []string{"[:status: 200]", "fwd=uri-miss"}},
		{"POST", "/h/", []string{"--http-method=POST", "--data=harness_test.go"}, []string{"[:status: 200]"}},
		{"with losses", "/100000", []string{"--tx-loss=0.05", "--rx-loss=0.05", "--nstreams=5"}, []string{"[content-length: 100000]", "; hit"}},
		{"from another port", "/h/", []string{"--change-local-addr=20ms", "--delay-stream=100ms"}, []string{"[:status: 200]"}},
		{"behind a NAT that rebinds", "/h/", []string{"--change-local-addr=20ms", "--nat-rebinding", "--delay-stream=100ms"}, []string{"[:status: 200]"}},
		{"with small windows", "/100000", []string{"--max-data=5000", "--max-stream-data-bidi-local=3000"}, []string{"[content-length: 100000]", "; hit"}},
		{"session", "/100000", session, []string{"; hit"}},
		{"0-RTT", "/100000", session, []string{"; hit", "type=0RTT"}},
		{"another method", "/h/", []string{"--http-method=PATCH"}, []string{"[:status: 200]"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 3*soon)
			defer cancel()
			args := append([]string{"--exit-on-all-streams-close", "--no-quic-dump", "--sni=edge.test"}, tt.args...)
			args = append(args, e.address.IP.String(), strconv.Itoa(e.address.Port), "https://edge.test"+tt.path)
			out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			for _, want := range tt.want {
				if !strings.Contains(string(out), want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
		})
	}
}
