package h1

// general_test.go: what handlers can do with a connection.

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edgecdn/cache/store"
	"edgecdn/server/gate"
)

const expectingPost = "POST /%s HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"

func TestContinue(t *testing.T) {
	both(t, func(t *testing.T, secure bool) {
		e := start(t, setup{secure: secure, handler: func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/unread" {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			if r.URL.Path == "/late" {
				_, _ = io.WriteString(w, "begun ")
				w.(http.Flusher).Flush()
			}
			body, err := io.ReadAll(r.Body)
			fmt.Fprint(w, string(body), err)
		}})
		c := e.dial()
		for range 2 {
			c.send(fmt.Sprintf(expectingPost, "read"))
			if a := c.read("POST"); a.StatusCode != 100 || len(a.Header) > 0 {
				t.Fatalf("%v %v, want 100", a.Status, a.Header)
			}
			c.send("hello")
			if a := c.read("POST"); a.StatusCode != 200 || a.body != "hello<nil>" || a.Close {
				t.Fatalf("%v %q", a.Status, a.body)
			}
		}
		c.send(fmt.Sprintf(expectingPost, "unread"))
		if a := c.read("POST"); a.StatusCode != 403 || !a.Close {
			t.Errorf("%v, close %v: the client may or may not send the body now", a.Status, a.Close)
		}
		c.ended()
		c = e.dial()
		c.send(fmt.Sprintf(expectingPost, "late") + "hello")
		if a := c.read("POST"); a.StatusCode != 200 || a.body != "begun hello<nil>" || !a.Close {
			t.Errorf("%v %q, close %v", a.Status, a.body, a.Close)
		}
		c.ended()
	})
}

// TestUnreadBodies: what a handler leaves is read away up to a bound, and never
// read as a request.
func TestUnreadBodies(t *testing.T) {
	e := start(t, setup{handler: func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" {
			_, _ = r.Body.Read(make([]byte, 3))
		}
		_, _ = io.WriteString(w, r.URL.Path)
	}})
	inner := strings.Repeat("GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n", 100)
	c := e.dial()
	for _, request := range []string{
		fmt.Sprintf("POST /a HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n%s", len(inner), inner),
		fmt.Sprintf("POST /a HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(inner), inner),
		fmt.Sprintf("POST /a HTTP/1.1\r\nHost: nobody@a.test\r\nContent-Length: %d\r\n\r\n", len(inner)),
	} {
		if strings.Contains(request, "nobody") {
			continue
		}
		c.send(request)
		if a := c.read("POST"); a.body != "/a" || a.Close {
			t.Errorf("%q", a.body)
		}
		if a := c.get("/b"); a.body != "/b" {
			t.Errorf("%q after a body that was not read", a.body)
		}
	}
	big := bytes.Repeat([]byte("GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n"), 20_000)
	c.send(fmt.Sprintf("POST /big HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n", len(big)))
	go c.Write(big)
	if a := c.read("POST"); a.body != "/big" {
		t.Errorf("%q", a.body)
	}
	if rest, _ := io.ReadAll(c.r); len(rest) > 0 {
		t.Errorf("%.100q after a body that is too long to be read away", rest)
	}
	if n := e.stats.BodiesUnread.Load(); n != 1 {
		t.Errorf("%d bodies counted as unread", n)
	}
}

// TestRepliesToBodies: what needs no handler is answered before the body is read.
func TestRepliesToBodies(t *testing.T) {
	e := start(t, setup{handler: func(http.ResponseWriter, *http.Request) { panic("not to be called") }})
	c := e.dial()
	for _, length := range []int{10, 200_000} {
		c.send(fmt.Sprintf("TRACE / HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n", length) + strings.Repeat("x", length))
		if a := c.read("TRACE"); a.StatusCode != 405 || a.Close {
			t.Errorf("%v, close %v", a.Status, a.Close)
		}
	}
	c.send("TRACE / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 300000\r\n\r\n")
	if a := c.read("TRACE"); a.StatusCode != 405 || !a.Close {
		t.Errorf("%v, close %v", a.Status, a.Close)
	}
	c.ended()
}

func TestFullDuplex(t *testing.T) {
	both(t, func(t *testing.T, secure bool) {
		e := start(t, setup{secure: secure, handler: func(w http.ResponseWriter, r *http.Request) {
			lines := bufio.NewScanner(r.Body)
			for lines.Scan() {
				fmt.Fprintf(w, "got %s\n", lines.Text())
				w.(http.Flusher).Flush()
			}
		}})
		c := e.dial()
		c.send("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n")
		c.send("2\r\na\n\r\n")
		resp, err := http.ReadResponse(c.r, &http.Request{Method: "POST"})
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		for _, line := range []string{"a", "b", "c"} {
			if !lines.Scan() || lines.Text() != "got "+line {
				t.Fatalf("%q, %v", lines.Text(), lines.Err())
			}
			if line != "c" {
				c.send("2\r\n" + string(line[0]+1) + "\n\r\n")
			}
		}
		c.send("0\r\n\r\n")
		if lines.Scan() {
			t.Errorf("%q", lines.Text())
		}
		if a := c.get("/"); a.StatusCode != 200 {
			t.Error(a.Status)
		}
	})
}

func TestHijack(t *testing.T) {
	both(t, func(t *testing.T, secure bool) {
		cut := make(chan error, 1)
		e := start(t, setup{secure: secure, handler: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Connection", "Upgrade")
			w.Header().Set("Upgrade", "websocket")
			w.WriteHeader(http.StatusSwitchingProtocols)
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			if r.URL.Path == "/hold" {
				_, err := conn.Read(make([]byte, 1))
				cut <- err
				return
			}
			ahead := rw.Reader.Buffered()
			line, err := rw.ReadString('\n')
			fmt.Fprintf(conn, "%d %q %v\n", ahead, line, err)
			line, err = rw.ReadString('\n')
			fmt.Fprintf(conn, "%q %v\n", line, err)
			if _, err := io.WriteString(w, "x"); !errors.Is(err, http.ErrHijacked) {
				t.Errorf("writing after Hijack: %v", err)
			}
		}})
		upgrade := "GET %s HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
		c := e.dial()
		c.send(fmt.Sprintf(upgrade, "/") + "ahead\n")
		resp, err := http.ReadResponse(c.r, nil)
		if err != nil || resp.StatusCode != 101 || resp.Header.Get("Upgrade") != "websocket" {
			t.Fatalf("%v, %v", resp, err)
		}
		if line, err := c.r.ReadString('\n'); line != "6 \"ahead\\n\" <nil>\n" {
			t.Errorf("%q, %v", line, err)
		}
		c.send("more\n")
		if line, err := c.r.ReadString('\n'); line != "\"more\\n\" <nil>\n" {
			t.Errorf("%q, %v", line, err)
		}
		c.ended()

		c = e.dial()
		c.send(fmt.Sprintf(upgrade, "/hold"))
		if _, err := http.ReadResponse(c.r, nil); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a hijacked connection", func() bool { return e.stats.Hijacked.Load() == 1 })
		e.Cut()
		if err := <-cut; err == nil {
			t.Error("the tunnel was not cut")
		}
	})
}

// TestClientGone: the request's context ends when the client goes away, not when
// it sends more.
func TestClientGone(t *testing.T) {
	both(t, func(t *testing.T, secure bool) {
		entered, ended := make(chan struct{}), make(chan error, 1)
		e := start(t, setup{secure: secure, handler: func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			if r.URL.Path != "/wait" {
				_, _ = io.WriteString(w, r.URL.Path)
				return
			}
			entered <- struct{}{}
			select {
			case <-r.Context().Done():
				ended <- r.Context().Err()
			case <-time.After(patience):
				ended <- errors.New("the context did not end")
			}
		}})
		for _, request := range []string{"GET /wait HTTP/1.1\r\nHost: a.test\r\n\r\n", "POST /wait HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nab"} {
			c := e.dial()
			c.send(request)
			<-entered
			_ = c.Close()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
		eventually(t, "two clients counted", func() bool { return e.stats.ClientsGone.Load() == 2 })
	})
}

// TestPipelinedWhileHandled: bytes that come while a handler works are the next
// requests.
func TestPipelinedWhileHandled(t *testing.T) {
	both(t, func(t *testing.T, secure bool) {
		entered, release := make(chan struct{}), make(chan struct{})
		e := start(t, setup{secure: secure, handler: func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/wait" {
				entered <- struct{}{}
				<-release
				if err := r.Context().Err(); err != nil {
					t.Error(err)
				}
			}
			_, _ = io.WriteString(w, r.URL.Path)
		}})
		c := e.dial()
		for range 3 {
			c.send("GET /wait HTTP/1.1\r\nHost: a.test\r\n\r\n")
			<-entered
			var next strings.Builder
			for i := range 200 { // more than a buffer
				fmt.Fprintf(&next, "GET /%d HTTP/1.1\r\nHost: a.test\r\n\r\n", i)
			}
			c.send(next.String())
			select {
			case <-time.After(3 * watchAfter): // until the watch has begun
			case <-entered:
			}
			release <- struct{}{}
			if a := c.read("GET"); a.body != "/wait" {
				t.Fatalf("%q", a.body)
			}
			for i := range 200 {
				if a := c.read("GET"); a.body != fmt.Sprintf("/%d", i) {
					t.Fatalf("%d: %q", i, a.body)
				}
			}
		}
	})
}

// TestReadersThatStay: a transport that still reads a body when its handler has
// returned gets an error, and the connection goes on.
func TestReadersThatStay(t *testing.T) {
	left := make(chan error, 1)
	reading := make(chan struct{})
	e := start(t, setup{handler: func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" {
			go func() {
				close(reading)
				_, err := io.Copy(io.Discard, r.Body)
				left <- err
			}()
			<-reading
		}
		_, _ = io.WriteString(w, r.URL.Path)
	}})
	c := e.dial()
	c.send("POST /a HTTP/1.1\r\nHost: a.test\r\nContent-Length: 20\r\n\r\nhalf of it")
	if a := c.read("POST"); a.body != "/a" {
		t.Errorf("%q", a.body)
	}
	if err := <-left; !errors.Is(err, http.ErrBodyReadAfterClose) {
		t.Errorf("the reader got %v", err)
	}
	c.send("the other.")
	if a := c.get("/b"); a.body != "/b" {
		t.Errorf("%q", a.body)
	}
}

func TestAbortsAreSeen(t *testing.T) {
	e := start(t, setup{handler: func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "half")
		w.(http.Flusher).Flush()
		<-r.Context().Done() // until it has been read
		panic(http.ErrAbortHandler)
	}})
	c := e.dial()
	c.send("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n")
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(resp.Body, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	e.gate.Cut()
	if n, err := resp.Body.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("%d bytes, %v: an aborted response of unknown length looks whole", n, err)
	}
}

func TestHTTP10(t *testing.T) {
	e := start(t, setup{handler: func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		if r.URL.Path == "/length" {
			w.Header().Set("Content-Length", "5")
		}
		_, _ = io.WriteString(w, "hel")
		w.(http.Flusher).Flush()
		_, _ = io.WriteString(w, "lo")
	}})
	c := e.dial()
	for range 2 {
		c.send("GET /length HTTP/1.0\r\nHost: a.test\r\nConnection: Keep-Alive\r\n\r\n")
		if a := c.read("GET"); a.StatusCode != 200 || a.body != "hello" || a.Header.Get("Connection") != "keep-alive" {
			t.Errorf("%v %q %v", a.Status, a.body, a.Header)
		}
	}
	c.send("GET /unknown HTTP/1.0\r\nHost: a.test\r\nConnection: Keep-Alive\r\n\r\n")
	if a := c.read("GET"); a.StatusCode != 200 || a.body != "hello" || len(a.TransferEncoding) > 0 || !a.Close {
		t.Errorf("%v %q %v", a.Status, a.body, a.TransferEncoding)
	}
	c = e.dial()
	c.send("GET /length HTTP/1.0\r\nHost: a.test\r\n\r\n")
	if a := c.read("GET"); a.body != "hello" || a.Header.Get("Connection") != "close" && !a.Close {
		t.Errorf("%q %v", a.body, a.Header)
	}
	c.ended()
}

func TestFilesAreCopied(t *testing.T) {
	both(t, func(t *testing.T, secure bool) {
		name := filepath.Join(t.TempDir(), "file")
		want := pattern(3 << 20)
		if err := os.WriteFile(name, want, 0o600); err != nil {
			t.Fatal(err)
		}
		e := start(t, setup{secure: secure, handler: func(w http.ResponseWriter, r *http.Request) {
			f, err := os.Open(name)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			if r.URL.Path == "/length" {
				w.Header().Set("Content-Length", fmt.Sprint(len(want)))
			}
			if n, err := io.Copy(w, f); n != int64(len(want)) || err != nil {
				t.Errorf("%d bytes, %v", n, err)
			}
		}})
		c := e.dial()
		for _, path := range []string{"/length", "/chunked", "/length"} {
			if a := c.get(path); a.body != string(want) || a.err != nil {
				t.Errorf("%s: %d bytes, %v", path, len(a.body), a.err)
			}
		}
	})
}

// TestBodiesFromDisk: the kernel sends what the disk has, the right bytes of it.
func TestBodiesFromDisk(t *testing.T) {
	both(t, func(t *testing.T, secure bool) {
		config := store.Config{Memory: store.MemoryConfig{Bytes: 4 << 20}}
		config.Disk = []store.DiskConfig{{Path: t.TempDir(), Bytes: 256 << 20}}
		e := startCached(t, setup{secure: secure}, config, sized)
		const n = 5 << 20 // never in memory
		path, body := fmt.Sprintf("/%d", n), string(pattern(n))
		c := e.dial()
		c.get(path)
		for _, test := range []struct {
			method, field string
			status        int
			want          string
		}{
			{"GET", "", 200, body},
			{"GET", "Range: bytes=1000000-3999999\r\n", 206, body[1_000_000:4_000_000]},
			{"GET", "Range: bytes=-7\r\n", 206, body[n-7:]},
			{"HEAD", "", 200, ""},
			{"GET", "", 200, body},
		} {
			c.send(test.method + " " + path + " HTTP/1.1\r\nHost: a.test\r\n" + test.field + "\r\n")
			if a := c.read(test.method); a.StatusCode != test.status || a.body != test.want || a.err != nil {
				t.Errorf("%s %s: %v, %d bytes, %v", test.method, test.field, a.Status, len(a.body), a.err)
			}
		}
		if n := e.asked.Load(); n != 1 {
			t.Errorf("the origin was asked %d times", n)
		}
		sent := e.kept.Stats().Disk.Directories[0].BytesSent
		if secure != (sent == 0) {
			t.Errorf("the kernel sent %d bytes", sent)
		}
	})
}

func TestHandlersDeadlines(t *testing.T) {
	both(t, func(t *testing.T, secure bool) {
		results := make(chan error, 1)
		e := start(t, setup{secure: secure, handler: func(w http.ResponseWriter, r *http.Request) {
			control := http.NewResponseController(w)
			var err error
			switch r.URL.Path {
			case "/read":
				_ = control.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
				_, err = io.ReadAll(r.Body)
			case "/write":
				_ = control.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
				for err == nil {
					_, err = w.Write(make([]byte, 1<<20))
				}
			default:
				return
			}
			results <- err
		}})
		c := e.dial()
		c.send("POST /read HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\n")
		if err := <-results; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read: %v", err)
		}
		c = e.dial()
		c.send("GET /write HTTP/1.1\r\nHost: a.test\r\n\r\n")
		if err := <-results; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("write: %v", err)
		}
	})
}

func TestDrain(t *testing.T) {
	inBubble(t, func(t *testing.T, secure bool) {
		entered, release := make(chan struct{}), make(chan struct{})
		e := start(t, setup{memory: true, secure: secure, handler: func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/wait" {
				close(entered)
				<-release
			}
		}})
		idle, busy, fresh := e.dial(), e.dial(), e.dial()
		idle.get("/")
		busy.send("GET /wait HTTP/1.1\r\nHost: a.test\r\n\r\n")
		<-entered
		if secure { // the handshake is over
			_ = fresh.SetDeadline(time.Now().Add(patience))
			fresh.get("/")
		}
		eventually(t, "idle connections", func() bool { return e.stats.Idle.Load() == 2 })
		e.Drain()
		idle.ended()
		if !secure {
			fresh.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
			if a := fresh.read("GET"); a.StatusCode != 200 || !a.Close {
				t.Errorf("a connection that had asked nothing: %v, close %v", a.Status, a.Close)
			}
		}
		fresh.ended()
		close(release)
		if a := busy.read("GET"); a.StatusCode != 200 || !a.Close {
			t.Errorf("the request under way: %v, close %v", a.Status, a.Close)
		}
		busy.ended()
		late := e.dial()
		if secure {
			if err := late.Conn.(interface{ HandshakeContext(context.Context) error }).HandshakeContext(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if a := late.get("/"); !a.Close {
			t.Error("a late connection is kept")
		}
	})
}

// wrapped is how a listener may count connections.
type wrapped struct{ *net.TCPConn }

func (w wrapped) NetConn() net.Conn { return w.TCPConn }

func TestWrappedConnections(t *testing.T) {
	e := start(t, setup{handler: echo, limits: gate.Limits{}})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	e.serving.Go(func() {
		c, err := ln.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		e.ServeConn(wrapped{c.(*net.TCPConn)}, nil)
	})
	e.address = ln.Addr().String()
	if a := e.dial().get("/"); a.body != "GET / " {
		t.Errorf("%q", a.body)
	}
}
