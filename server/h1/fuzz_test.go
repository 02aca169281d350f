package h1

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"edgecdn/cache"
	"edgecdn/internal/unit"
	"edgecdn/server/gate"
)

// FuzzConnection sends bytes over a connection. Whatever they are, what comes back
// is well-formed answers up to a refusal or the end, one for each request that the
// handler saw, and the handler sees nothing that could be read in two ways.
func FuzzConnection(f *testing.F) {
	for _, c := range strictCases {
		if input := c.bytes(c.inputs[0]); len(input) < 2000 {
			f.Add([]byte(input + follower))
		}
	}
	calls := make(chan string, 1000)
	e := start(f, setup{limits: gate.Limits{HeaderBytes: 2 * unit.KiB, HeaderFields: 32}, handler: func(w http.ResponseWriter, r *http.Request) {
		in := cache.FromContext(r.Context())
		line := in.Method + in.Target + in.Host
		for _, field := range in.Fields {
			line += field.Name + field.Value
			if field.Name == "transfer-encoding" || field.Name == "host" || field.Name != strings.ToLower(field.Name) || field.Name == "" {
				line += "\n"
			}
		}
		_, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
		}
		calls <- line
	}})
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 8<<10 {
			return
		}
		client, server := net.Pipe()
		_ = client.SetDeadline(time.Now().Add(patience))
		served := make(chan struct{})
		go func() {
			defer close(served)
			e.ServeConn(halfClosed{server, bytes.NewReader(in)}, nil)
		}()
		r := bufio.NewReader(client)
		answered := 0
		for {
			if _, err := r.Peek(1); err != nil {
				break
			}
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatalf("%q: answer %d: %v", in, answered, err)
			}
			if resp.StatusCode == 100 {
				continue
			}
			answered++
			if _, err := io.Copy(io.Discard, resp.Body); err != nil && !headed(in) {
				t.Fatalf("%q: body of answer %d: %v", in, answered, err)
			}
		}
		_ = client.Close()
		<-served
		seen := len(calls)
		for range seen {
			if line := <-calls; strings.ContainsAny(line, "\r\n\x00") {
				t.Fatalf("%q: the handler saw %q", in, line)
			}
		}
		if seen > answered && !headed(in) {
			t.Fatalf("%q: %d requests seen, %d answered", in, seen, answered)
		}
	})
}

// headed says that answers may have no body though they tell its length.
func headed(in []byte) bool { return bytes.Contains(in, []byte("HEAD")) }

// halfClosed has a client that has sent all it will.
type halfClosed struct {
	net.Conn
	in io.Reader
}

func (c halfClosed) Read(p []byte) (int, error) { return c.in.Read(p) }
