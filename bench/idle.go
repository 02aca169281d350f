package main

// What a connection costs that nobody uses.

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// idleConnections are opened to each server, as many as a limit of 20,000 open files
// lets both ends have.
const idleConnections = 9000

// measureIdle opens many connections, asks once on each, and looks how the memory of
// the server has grown.
func measureIdle(ctx context.Context, s *stage, t *topic) (*result, error) {
	r := s.newResult(t)
	r.Text = fmt.Sprintf("Growth of the server's resident memory by %d kept-alive connections after a request of 1kB on each, in MB.", idleConnections)
	r.Columns = []string{""}
	lines := [][]string{{"in the clear"}, {"TLS 1.3"}}
	for _, side := range t.sides {
		r.Columns = append(r.Columns, side.name)
		for i, secure := range []bool{false, true} {
			grown, err := idleGrowth(ctx, side, secure)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", side.name, err)
			}
			lines[i] = append(lines[i], fmt.Sprintf("%.0f", grown/1e6))
		}
	}
	r.Rows = lines
	for _, line := range lines {
		fmt.Println(t.name, strings.Join(line, "  "))
	}
	return r, nil
}

func idleGrowth(ctx context.Context, side *server, secure bool) (float64, error) {
	before, err := side.resident()
	if err != nil {
		return 0, err
	}
	conns := make([]net.Conn, 0, idleConnections)
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for range idleConnections {
		c, err := openIdle(ctx, side, secure)
		if err != nil {
			return 0, fmt.Errorf("connection %d: %w", len(conns)+1, err)
		}
		conns = append(conns, c)
	}
	select { // what is given back late is not a cost of being idle
	case <-time.After(3 * time.Second):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	after, err := side.resident()
	return after - before, err
}

func openIdle(ctx context.Context, side *server, secure bool) (c net.Conn, err error) {
	address := side.clear
	if secure {
		address = side.tls
		c, err = (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}}).DialContext(ctx, "tcp", address)
	} else {
		c, err = (&net.Dialer{}).DialContext(ctx, "tcp", address)
	}
	if err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", sizes[0].paths(1)[0], address); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(bufio.NewReaderSize(c, 2048), nil)
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return c, err
}

// resident returns the bytes of memory of the process and its children.
func (p *process) resident() (float64, error) {
	pids, err := p.pids()
	total := 0.0
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return 0, err
		}
		_, rest, _ := strings.Cut(string(text), "VmRSS:")
		number, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
		kb, err := strconv.ParseFloat(number, 64)
		if err != nil {
			return 0, fmt.Errorf("VmRSS: %w", err)
		}
		total += kb * 1024
	}
	return total, err
}
