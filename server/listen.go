package server

// listen.go opens the sockets: all of them before any serves, so that a node
// either has every door that it was told to have, or says which it cannot get.

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"

	"edgecdn/server/gate"
)

// portTries is how often a free port is looked for that both TCP and UDP have,
// where the configuration leaves it to the system.
const portTries = 20

// Listen opens every configured address, TCP and, for HTTP/3, UDP on the same
// port. On an error none is left open. Once it has succeeded it does nothing.
func (s *Server) Listen() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.doors != nil {
		return nil
	}
	if len(s.config.HTTP)+len(s.config.HTTPS) == 0 {
		return errors.New("server: no listener: configure http or https, such as http: [127.0.0.1:8080]")
	}
	var opened closers
	err := s.open(&opened)
	if err != nil {
		s.doors, s.engines = nil, nil
		return errors.Join(err, opened.close())
	}
	return nil
}

type closers []interface{ Close() error }

func (c closers) close() (err error) {
	for _, each := range c {
		err = errors.Join(err, each.Close())
	}
	return err
}

func (s *Server) open(opened *closers) error {
	for i, address := range s.config.HTTP {
		d := &gate.Door{Gate: s.gate, Scheme: "http"}
		key := "http[" + strconv.Itoa(i) + "]"
		tcp, err := listenTCP(key, address)
		if err != nil {
			return err
		}
		*opened = append(*opened, tcp)
		d.Listener = tcp.Addr().String()
		s.doors, s.engines = append(s.doors, d), append(s.engines, s.newTCPEngine(d, key, tcp, nil))
	}
	for i, address := range s.config.HTTPS {
		d := &gate.Door{Gate: s.gate, Scheme: "https"}
		key := "https[" + strconv.Itoa(i) + "]"
		tcp, udp, err := listenBoth(key, address, *s.config.HTTP3)
		if err != nil {
			return err
		}
		*opened = append(*opened, tcp)
		d.Listener = tcp.Addr().String()
		if udp != nil {
			d.AltSvc = fmt.Sprintf(`h3=":%d"; ma=86400`, cmp.Or(s.config.AltSvcPort, tcp.Addr().(*net.TCPAddr).Port))
		}
		s.doors, s.engines = append(s.doors, d), append(s.engines, s.newTCPEngine(d, key, tcp, s.tlsConfig(false)))
		if udp == nil {
			continue
		}
		*opened = append(*opened, udp)
		beside := &gate.Door{Gate: s.gate, Scheme: "https", Listener: d.Listener}
		engine, err := s.newQUICEngine(beside, key, udp, s.tlsConfig(true))
		if err != nil {
			return err
		}
		*opened = append(*opened, engine.transport)
		s.engines = append(s.engines, engine)
	}
	return nil
}

func listenTCP(key, address string) (*net.TCPListener, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, bindError(key, address, "TCP", err)
	}
	return ln.(*net.TCPListener), nil
}

// listenBoth opens TCP and, if wanted, UDP on the same port.
func listenBoth(key, address string, wantUDP bool) (*net.TCPListener, *net.UDPConn, error) {
	for try := 1; ; try++ {
		tcp, err := listenTCP(key, address)
		if err != nil || !wantUDP {
			return tcp, nil, err
		}
		bound := tcp.Addr().(*net.TCPAddr)
		udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: bound.IP, Port: bound.Port, Zone: bound.Zone})
		if err == nil {
			return tcp, udp, nil
		}
		_ = tcp.Close() // never accepted anything
		_, port, _ := net.SplitHostPort(address)
		if port != "0" || try == portTries {
			return nil, nil, bindError(key, address, "UDP (for HTTP/3; http3: false leaves it closed)", err)
		}
	}
}

// bindError says what could not be opened and what can be done about it.
func bindError(key, address, kind string, err error) error {
	hint := ""
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		hint = ": another program has it: stop that one, or choose another address"
	case errors.Is(err, syscall.EACCES):
		hint = ": ports below 1024 need root or the capability CAP_NET_BIND_SERVICE: choose a higher one, or grant it"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		hint = ": this machine has no such address: choose one that it has, or leave it out to listen on all"
	}
	return fmt.Errorf("server: %s: listen on %s %s: %w%s", key, kind, address, err, hint)
}
