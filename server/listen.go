package server

// listen.go opens the sockets: all of them before any serves, so that a node
// either has every door that it was told to have, or says which it cannot get.

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
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

// What an address begins with that is none of the network's.
const (
	unixScheme = "unix:"
	fdScheme   = "fd:"
)

// sockets are what one address of the configuration stands for. systemd hands
// several over by one name.
type sockets struct {
	streams   []net.Listener
	datagrams []*net.UDPConn
}

func (s *sockets) close() (err error) {
	for _, ln := range s.streams {
		err = errors.Join(err, ln.Close())
	}
	for _, udp := range s.datagrams {
		err = errors.Join(err, udp.Close())
	}
	return err
}

func (s *Server) open(opened *closers) error {
	handed, err := inherit(os.Getenv)
	if err != nil {
		return err
	}
	for i, address := range s.config.HTTP {
		key := "http[" + strconv.Itoa(i) + "]"
		found, err := s.listen(key, address, false, handed, opened)
		if err != nil {
			return err
		}
		for _, ln := range found.streams {
			d := &gate.Door{Gate: s.gate, Scheme: "http", Listener: listenerName(ln.Addr())}
			s.doors, s.engines = append(s.doors, d), append(s.engines, s.newTCPEngine(d, key, ln, nil))
		}
	}
	for i, address := range s.config.HTTPS {
		key := "https[" + strconv.Itoa(i) + "]"
		found, err := s.listen(key, address, *s.config.HTTP3, handed, opened)
		if err != nil {
			return err
		}
		if err := s.openHTTPS(key, &found, opened); err != nil {
			return err
		}
	}
	handed.warn(s.log)
	return nil
}

func (s *Server) openHTTPS(key string, found *sockets, opened *closers) error {
	for _, ln := range found.streams {
		d := &gate.Door{Gate: s.gate, Scheme: "https", Listener: listenerName(ln.Addr())}
		if len(found.datagrams) > 0 {
			port := found.datagrams[0].LocalAddr().(*net.UDPAddr).Port
			d.AltSvc = fmt.Sprintf(`h3=":%d"; ma=86400`, cmp.Or(s.config.AltSvcPort, port))
		}
		s.doors, s.engines = append(s.doors, d), append(s.engines, s.newTCPEngine(d, key, ln, s.tlsConfig(false)))
	}
	for _, udp := range found.datagrams {
		beside := &gate.Door{Gate: s.gate, Scheme: "https", Listener: udp.LocalAddr().String()}
		engine, err := s.newQUICEngine(beside, key, udp, s.tlsConfig(true))
		if err != nil {
			return err
		}
		*opened = append(*opened, engine.transport)
		s.engines = append(s.engines, engine)
	}
	return nil
}

// listen opens what an address stands for, and notes it in opened.
func (s *Server) listen(key, address string, wantUDP bool, handed inherited, opened *closers) (found sockets, err error) {
	if path, ok := strings.CutPrefix(address, unixScheme); ok {
		ln, err := listenUnix(key, path, s.config.unixMode())
		if err != nil {
			return found, err
		}
		found.streams = []net.Listener{ln}
	} else if name, ok := strings.CutPrefix(address, fdScheme); ok {
		if found, err = handed.take(key, name); err != nil {
			return found, err
		}
		if len(found.datagrams) > 0 && !wantUDP {
			return found, errors.Join(fmt.Errorf("server: %s: %s is a UDP socket, which is for HTTP/3 alone: hand it to https, with http3 on", key, address), found.close())
		}
		if len(found.streams) == 0 {
			return found, errors.Join(fmt.Errorf("server: %s: %s has no TCP or unix socket beside that for HTTP/3", key, address), found.close())
		}
	} else {
		tcp, udp, err := listenBoth(key, address, wantUDP)
		if err != nil {
			return found, err
		}
		found.streams = []net.Listener{tcp}
		if udp != nil {
			found.datagrams = []*net.UDPConn{udp}
		}
	}
	for _, ln := range found.streams {
		*opened = append(*opened, ln)
	}
	for _, udp := range found.datagrams {
		*opened = append(*opened, udp)
	}
	return found, nil
}

// listenerName is how a listener is called in the log and by operators.
func listenerName(a net.Addr) string {
	if a.Network() == "unix" {
		return unixScheme + a.String()
	}
	return a.String()
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
