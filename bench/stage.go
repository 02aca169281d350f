package main

// The stage: an origin, the edge, and those it is compared with, all over the
// same origin.

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// server is one side of a comparison.
type server struct {
	*process
	name            string
	clear, tls, udp string // addresses; "" where it does not speak that
}

type stage struct {
	settings
	dir       string
	originURL string
	processes []*process
	edgeNode  *server
	nginx     *server
	nginxPush *server // with tcp_nopush
	edgeDisk  *server // with little memory
	goStd     *server
	goPlain   *server // its ReverseProxy as it comes
	edgeH2    *server // before an origin that speaks HTTP/2
	goH2      *server
	versions  map[string]string
	http2Rate map[string]float64 // requests a second, by server and size
}

func newStage(ctx context.Context, set settings) (_ *stage, err error) {
	dir, err := os.MkdirTemp("", "edge-bench-")
	if err != nil {
		return nil, err
	}
	// nginx drops its rights: its workers must get through to the cache.
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	s := &stage{settings: set, dir: dir, versions: map[string]string{}, http2Rate: map[string]float64{}}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if err := makeCertificate(dir); err != nil {
		return nil, err
	}
	for _, step := range []func(context.Context) error{s.startOrigin, s.startEdge, s.startEdgeDisk, s.startNginx, s.startReference, s.startH2} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return s, s.readVersions()
}

func (s *stage) close() {
	for _, p := range s.processes {
		p.stop()
	}
	os.RemoveAll(s.dir)
}

// run starts a program of the stage and waits until it answers.
func (s *stage) run(ctx context.Context, name string, ask func() error, program string, args ...string) (*process, error) {
	p, err := start(s.dir, name, program, args...)
	if err != nil {
		return nil, err
	}
	s.processes = append(s.processes, p)
	return p, p.await(ctx, ask)
}

func (s *stage) startOrigin(ctx context.Context) error {
	address, err := freeAddress()
	if err != nil {
		return err
	}
	s.originURL = "http://" + address
	_, err = s.run(ctx, "origin", answers(s.originURL+"/_origin/stats"), s.origin, "--listen", address)
	return err
}

func (s *stage) startEdge(ctx context.Context) (err error) {
	s.edgeNode, err = s.startEdgeNode(ctx, "edge", "{url: "+s.originURL+"}", "")
	return err
}

func (s *stage) startEdgeDisk(ctx context.Context) (err error) {
	s.edgeDisk, err = s.startEdgeNode(ctx, "edge-disk", "{url: "+s.originURL+"}", "store: {memory: {bytes: 16MiB}, disk: [{path: "+filepath.Join(s.dir, "edge-disk-tier")+", bytes: 2GiB}]}\n")
	s.edgeDisk.name = "edge"
	return err
}

// startEdgeNode runs an edge as an operator would: with certificates of the same
// kind as nginx has and an access log to a file. All clients come from one address
// here, so its bounds are raised.
func (s *stage) startEdgeNode(ctx context.Context, name, origin, more string) (*server, error) {
	addresses, err := freeAddresses(3)
	if err != nil {
		return nil, err
	}
	clear, tls, admin := addresses[0], addresses[1], addresses[2]
	config := strings.NewReplacer("{dir}", s.dir, "{name}", name, "{clear}", clear, "{tls}", tls, "{admin}", admin, "{origin}", origin).Replace(edgeConfig)
	file := filepath.Join(s.dir, name+".yaml")
	if err := os.WriteFile(file, []byte(config+more), 0o600); err != nil {
		return nil, err
	}
	p, err := s.run(ctx, name, answers("http://"+admin+"/readyz"), s.edge, "serve", "--config", file)
	return &server{p, name, clear, tls, tls}, err
}

const edgeConfig = `data: {dir}/{name}
server:
  http: ["{clear}"]
  https: ["{tls}"]
  tls: {certificates: [{cert: {dir}/cert.pem, key: {dir}/key.pem}]}
  access_log: {format: combined, path: {dir}/{name}-access.log}
  limits: {connections_per_address: 20000, connections_per_prefix: 20000, handshake_rate: 100000, handshake_rate_per_prefix: 100000}
admin: {listen: "{admin}"}
origins:
  bench: {origin}
hosts:
  - names: ["*"]
    origin: bench
`

func (s *stage) startNginx(ctx context.Context) error {
	program, err := exec.LookPath("nginx")
	if err != nil {
		if program, err = exec.LookPath("/usr/sbin/nginx"); err != nil {
			return fmt.Errorf("nginx is not installed (make bench installs it where it may): %w", err)
		}
	}
	at, err := freeAddresses(3)
	if err != nil {
		return err
	}
	clear, tls, push := at[0], at[1], at[2]
	user := ""
	if os.Getuid() == 0 {
		user = "user root;"
	}
	config := strings.NewReplacer("{user}", user, "{dir}", s.dir, "{clear}", clear, "{tls}", tls, "{push}", push,
		"{origin}", strings.TrimPrefix(s.originURL, "http://")).Replace(nginxConfig)
	file := filepath.Join(s.dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		return err
	}
	p, err := s.run(ctx, "nginx", answers("http://"+clear+"/_origin/"), program, "-c", file, "-p", s.dir, "-e", filepath.Join(s.dir, "nginx-error.log"))
	s.nginx = &server{p, "nginx", clear, tls, ""}
	s.nginxPush = &server{p, "nginx with tcp_nopush", push, "", ""}
	return err
}

// nginxConfig is what a careful operator would write for this job. It logs as
// the edge does: a line for each request, buffered. tcp_nopush, which Debian's
// own file turns on, is on for one of its two addresses: on loopback it makes bodies
// of 100 kB cost nginx up to twice as much.
const nginxConfig = `{user}
worker_processes 1;
daemon off;
pid {dir}/nginx.pid;
error_log {dir}/nginx-error.log error;
events { worker_connections 16384; }
http {
	access_log {dir}/nginx-access.log combined buffer=64k flush=1s;
	sendfile on;
	keepalive_timeout 60s;
	keepalive_requests 100000000;
	open_file_cache max=10000 inactive=60s;
	client_body_temp_path {dir}/nginx-body;
	proxy_temp_path {dir}/nginx-proxy;
	fastcgi_temp_path {dir}/nginx-fastcgi;
	uwsgi_temp_path {dir}/nginx-uwsgi;
	scgi_temp_path {dir}/nginx-scgi;
	proxy_cache_path {dir}/nginx-cache levels=1:2 keys_zone=bench:10m max_size=1g inactive=1h use_temp_path=off;
	upstream origin { server {origin}; keepalive 32; }
	proxy_http_version 1.1;
	proxy_set_header Connection "";
	proxy_set_header Host $http_host;
	proxy_cache bench;
	proxy_cache_key $scheme$http_host$request_uri;
	add_header Cache-Status "nginx; $upstream_cache_status";
	server {
		listen {clear} backlog=4096;
		listen {tls} ssl http2 backlog=4096;
		ssl_certificate {dir}/cert.pem;
		ssl_certificate_key {dir}/key.pem;
		ssl_protocols TLSv1.3;
		ssl_session_cache shared:tls:1m;
		location / { proxy_pass http://origin; }
	}
	server {
		listen {push} backlog=4096;
		tcp_nopush on;
		location / { proxy_pass http://origin; }
	}
}
`

func (s *stage) startReference(ctx context.Context) (err error) {
	s.goStd, s.goPlain, err = s.startReferenceBefore(ctx, "reference", s.originURL)
	return err
}

// startH2 starts an origin that speaks HTTP/2 over TLS, and who passes on to it.
func (s *stage) startH2(ctx context.Context) error {
	address, err := freeAddress()
	if err != nil {
		return err
	}
	origin := "https://" + address
	dial := func() error {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			err = conn.Close()
		}
		return err
	}
	certificate := []string{"--cert", filepath.Join(s.dir, "cert.pem"), "--key", filepath.Join(s.dir, "key.pem")}
	if _, err = s.run(ctx, "origin-h2", dial, s.origin, append(certificate, "--listen", address)...); err != nil {
		return err
	}
	ca := filepath.Join(s.dir, "cert.pem")
	if s.edgeH2, err = s.startEdgeNode(ctx, "edge-h2", "{url: "+origin+", ca: "+ca+"}", ""); err != nil {
		return err
	}
	s.edgeH2.name = "edge"
	s.goH2, _, err = s.startReferenceBefore(ctx, "reference-h2", origin)
	return err
}

// startReferenceBefore runs Go's own servers before an origin: with a transport that
// keeps as many connections as it is asked on, and with the one that all programs have.
func (s *stage) startReferenceBefore(ctx context.Context, name, behind string) (tuned, plain *server, err error) {
	at, err := freeAddresses(3)
	if err != nil {
		return nil, nil, err
	}
	program, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	clear, secure := at[0], at[1]
	p, err := s.run(ctx, name, func() error { return tryHTTP3(ctx, "https://"+secure+"/video/1kB.bin") },
		program, "-reference", strings.Join(at, ","), "-tls", s.dir, "-behind", behind)
	return &server{p, "Go's own", clear, secure, secure}, &server{p, "Go's own as it comes", at[2], "", ""}, err
}

func (s *stage) readVersions() error {
	for name, command := range map[string][]string{
		"edge":   {s.edge, "version"},
		"nginx":  {s.nginx.cmd.Path, "-v"},
		"wrk":    {"wrk", "-v"},
		"h2load": {"h2load", "--version"},
	} {
		// wrk ends with an error after its version.
		out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
		if len(out) == 0 {
			return fmt.Errorf("%s is not installed (make bench installs it where it may): %w", name, err)
		}
		line, _, _ := strings.Cut(string(out), "\n")
		line, _, _ = strings.Cut(line, " [")
		s.versions[name] = strings.TrimSpace(strings.TrimPrefix(line, "nginx version: "))
	}
	return nil
}

func makeCertificate(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: cert}, "key.pem": {Type: "EC PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			return err
		}
	}
	return nil
}
