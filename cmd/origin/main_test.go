package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

func TestRun(t *testing.T) {
	for name, args := range map[string][]string{
		"HTTP/1.1 clear": {"--listen=127.0.0.1:0"},
		"HTTP/2.0 TLS":   {"--listen=127.0.0.1:0", "--tls"},
	} {
		t.Run(name, func(t *testing.T) {
			var f flags
			parser, err := kong.New(&f)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := parser.Parse(args); err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			in, out := io.Pipe()
			done := make(chan error, 1)
			go func() {
				err := run(ctx, f, out)
				out.CloseWithError(err) // where it has said nothing, nobody waits for that
				done <- err
			}()
			line, err := bufio.NewReader(in).ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			url := regexp.MustCompile(`https?://[^,]+`).FindString(line)

			client := &http.Client{Transport: &http.Transport{
				TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true,
			}}
			resp, err := client.Get(url + "/")
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if got := fmt.Sprint(resp.Proto, resp.StatusCode); got != name[:8]+"200" {
				t.Errorf("got %s", got)
			}
			stop()
			if err := <-done; err != nil {
				t.Errorf("after the end: %v", err)
			}
		})
	}
}

func TestRunSaysWhatIsWrong(t *testing.T) {
	err := run(t.Context(), flags{Listen: "256.0.0.1:1"}, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "--listen") {
		t.Errorf("got %v, want a hint at --listen", err)
	}
}
