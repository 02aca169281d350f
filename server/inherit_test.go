package server

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// overUnix asks by a unix socket, with TLS where e has a certificate for it.
func overUnix(t *testing.T, e *edge, path, scheme string) *client {
	t.Helper()
	config := e.tls("h2", "http/1.1")
	config.ServerName = "localhost"
	tr := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &client{base: scheme + "://localhost", Client: plainClient(tr)}
}

func TestUnixSockets(t *testing.T) {
	dir := t.TempDir()
	clear, secure := filepath.Join(dir, "clear"), filepath.Join(dir, "secure")
	large := strings.Repeat("x", 3<<20)
	config := Config{HTTP: []string{"unix:" + clear}, HTTPS: []string{"unix:" + secure}, UnixMode: "0600",
		Limits: Limits{StallTimeout: patience}}
	// What a process that was killed leaves behind.
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: clear, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	_ = left.Close()
	e := start(t, setup{config: config, handler: func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		_, _ = io.WriteString(w, string(b)+large)
	}})
	if got, want := e.http+" "+e.https, "unix:"+clear+" unix:"+secure; got != want {
		t.Errorf("listens on %s, want %s", got, want)
	}
	for path, scheme := range map[string]string{clear: "http", secure: "https"} {
		c := overUnix(t, e, path, scheme)
		for range 3 {
			if resp, body := c.do(t, c.request(t, "POST", "/", strings.NewReader("abc"))); resp.StatusCode != 200 || body != "abc"+large {
				t.Errorf("%s: %s, %d bytes", path, resp.Status, len(body))
			}
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path, info, err)
		}
		s, err := newServer(t, setup{config: Config{HTTP: []string{"unix:" + path}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Listen(); err == nil || !strings.Contains(err.Error(), "another program has it") {
			t.Errorf("a socket that is in use: %v", err)
		}
	}
	if err := e.shutdown(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(clear); err == nil {
		t.Error("the socket's file is left behind")
	}
	// What is no socket is nobody's to remove.
	if err := os.WriteFile(clear, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := newServer(t, setup{config: Config{HTTP: []string{"unix:" + clear}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err == nil {
		t.Error("a file was taken for a socket")
	}
	if _, err := os.Stat(clear); err != nil {
		t.Error("a file was removed")
	}
}

func TestInherit(t *testing.T) {
	me := strconv.Itoa(os.Getpid())
	for _, test := range []struct {
		name            string
		pid, fds, name3 string
		want            inherited
		fails           bool
	}{
		{"nothing", "", "", "", nil, false},
		{"of another process", "1", "2", "a:b", nil, false},
		{"names", me, "3", "web:web:clear", inherited{"web": {3, 4}, "clear": {5}}, false},
		{"no names", me, "2", "", inherited{"unknown": {3, 4}}, false},
		{"too few names", me, "3", "a:b", nil, true},
		{"no number", me, "x", "", nil, true},
		{"too many", me, "100000", "", nil, true},
	} {
		got, err := inherit(func(key string) string {
			return map[string]string{"LISTEN_PID": test.pid, "LISTEN_FDS": test.fds, "LISTEN_FDNAMES": test.name3}[key]
		})
		if !reflect.DeepEqual(got, test.want) || (err != nil) != test.fails {
			t.Errorf("%s: %v, %v", test.name, got, err)
		}
	}
}

// handed makes a descriptor such as systemd hands over.
func handed(t *testing.T, f func() (*os.File, error)) int {
	t.Helper()
	file, err := f()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func TestTakeMakesListeners(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	all := inherited{"web": {handed(t, tcp.(*net.TCPListener).File), handed(t, udp.File)}}
	s, err := all.take("https[0]", "web")
	if err != nil || len(s.streams) != 1 || len(s.datagrams) != 1 {
		t.Fatalf("%v, %v", s, err)
	}
	defer s.close()
	if s.streams[0].Addr().String() != tcp.Addr().String() || s.datagrams[0].LocalAddr().String() != udp.LocalAddr().String() {
		t.Errorf("%v, %v", s.streams[0].Addr(), s.datagrams[0].LocalAddr())
	}
	if _, err := all.take("https[1]", "web"); err == nil || !strings.Contains(err.Error(), "FileDescriptorName=web") {
		t.Errorf("taken twice: %v", err)
	}
}

func TestSocketsThatNobodyTakes(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	web, spare := handed(t, tcp.(*net.TCPListener).File), handed(t, tcp.(*net.TCPListener).File)
	all := inherited{"web": {web}, "spare": {spare}}
	s, err := all.take("http[0]", "web")
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	var log strings.Builder
	all.warn(slog.New(slog.NewTextHandler(&log, nil)))
	for _, want := range []string{"level=WARN", "name=spare", "fd:spare", "server.http or server.https", "FileDescriptorName", "address=" + tcp.Addr().String()} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%q lacks %q", log.String(), want)
		}
	}
	if strings.Contains(log.String(), "name=web") || strings.Count(log.String(), "\n") != 1 {
		t.Errorf("more is warned of: %s", log.String())
	}
	if _, err := unix.FcntlInt(uintptr(spare), unix.F_GETFD, 0); err == nil {
		t.Error("the socket is still open")
	}
	log.Reset()
	if all.warn(slog.New(slog.NewTextHandler(&log, nil))); log.Len() > 0 {
		t.Errorf("again: %s", log.String())
	}
}

func TestAddressesOfOtherKinds(t *testing.T) {
	c := Config{HTTP: []string{"unix:/run/a.sock", "fd:web", "unix:relative", "fd:", "fd:a:b", "unix:/run/a.sock"}, UnixMode: "0999"}
	var got []string
	c.Validate(func(path, _ string) { got = append(got, path) })
	if strings.Join(got, " ") != "http[2] http[3] http[4] http[5] unix_mode" {
		t.Error(got)
	}
}
