package dnsgeo

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// soakFrom opens a socket of an address of loopback's network, which has room for
// as many sources as a flood could wish for.
func soakFrom(t *testing.T, a, b, c, d byte, to string) net.Conn {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.IPv4(a, b, c, d)}}
	conn, err := dialer.DialContext(t.Context(), "udp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// soakQuery is a question for a name that does not exist, with a proof wanted.
func soakQuery(r *rand.Rand) []byte {
	name := fmt.Sprintf("%x.example.com.", r.Uint64())
	if r.IntN(4) == 0 {
		name = fmt.Sprintf("%x.cdn.example.com.", r.Uint64()) // and such as are below a wildcard
	}
	raw, err := secured(name, dns.TypeA, false).Pack()
	if err != nil {
		panic(err)
	}
	return raw
}

// garbage is a query with some of its bytes changed or gone.
func garbage(r *rand.Rand) []byte {
	raw := randomQuery(r)
	for range 1 + r.IntN(8) {
		raw[r.IntN(len(raw))] = byte(r.Uint32())
	}
	return raw[:r.IntN(len(raw)+1)]
}

// soakPerSecond is the flood of random names; a sixteenth of it comes as garbage beside.
const soakPerSecond = 20_000

// soakNamespace says that the test runs in a network of its own.
const soakNamespace = "EDGE_SOAK_NAMESPACE"

// inNamespace runs the test again in a network namespace that has all of 10.0.0.0/8,
// and reports whether that was done. Without root there is the loopback network.
func inNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getenv(soakNamespace) != "" {
		return false
	}
	script := `ip link set lo up && ip route add local 10.0.0.0/8 dev lo || exit 3; exec "$@"`
	cmd := exec.Command("unshare", "--net", "sh", "-c", script, "sh", os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), soakNamespace+"=1")
	out, err := cmd.CombinedOutput()
	if ended, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || ended.ExitCode() != 1) {
		t.Logf("no namespace, so it is done on loopback: %v %s", err, out)
		return false
	}
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
	return true
}

// TestSoakDNS floods a signed zone with names that do not exist, from 1,024 addresses
// in as many networks, and with garbage, while a resolver asks for one that does: it is
// answered, and memory stays as it is.
func TestSoakDNS(t *testing.T) {
	duration, err := time.ParseDuration(os.Getenv("EDGE_SOAK"))
	if err != nil {
		t.Skip("SKIPPED: a long run; EDGE_SOAK says how long")
	}
	if inNamespace(t) {
		return
	}
	network := byte(127)
	if os.Getenv(soakNamespace) != "" {
		network = 10
	}
	cfg, _ := signedZone(t)
	r, address := running(t, cfg, twoNodes())
	var stop atomic.Bool
	var sent atomic.Uint64
	var all sync.WaitGroup
	var sources []net.Conn
	for i := range 1024 {
		sources = append(sources, soakFrom(t, network, byte(1+i/256), byte(i), 1, address))
	}
	for worker := range 2 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(worker), 1))
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for began, n := time.Now(), 0; !stop.Load(); <-tick.C {
				for due := int(time.Since(began).Seconds() * soakPerSecond / 2); n < due; n++ {
					from := sources[random.IntN(len(sources))]
					if n%2 == 0 { // half of it comes from a few
						from = sources[random.IntN(16)]
					}
					raw := soakQuery(random)
					if n%16 == 0 {
						raw = garbage(random)
					}
					if _, err := from.Write(raw); err == nil {
						sent.Add(1)
					}
				}
			}
		})
	}
	all.Go(func() { // what comes back is not wanted, and is not to fill up
		buf := make([]byte, 4096)
		for i := 0; !stop.Load(); i++ {
			from := sources[i%len(sources)]
			_ = from.SetReadDeadline(time.Now().Add(time.Millisecond))
			for {
				if _, err := from.Read(buf); err != nil {
					break
				}
			}
		}
	})
	asked, answered := soakLegitimate(t, address, duration, func() { stop.Store(true) })
	all.Wait()
	s := r.Stats()
	t.Logf("flood: %d sent, %d queries read, %d dropped by the limit, %d truncated by it, %d sent to TCP, %d signatures, %d unsent, %d lost to make room",
		sent.Load(), s.Queries.Load(), s.Limits.Dropped.Load(), s.Limits.Slipped.Load(), s.Limits.Unproven.Load(), s.Signatures.Load(), s.Unsent.Load(), s.Overrun.Load())
	t.Logf("legitimate: %d asked, %d answered", asked, answered)
	if answered < asked*99/100 {
		t.Errorf("%d of %d legitimate queries were answered", answered, asked)
	}
	if s.Panics.Load() > 0 {
		t.Errorf("%d queries met a bug", s.Panics.Load())
	}
	if s.Limits.Dropped.Load() == 0 {
		t.Error("the flood was not limited")
	}
}

// soakLegitimate asks for a name that exists, as a resolver would: again where it
// hears nothing, by TCP where it is told to.
func soakLegitimate(t *testing.T, address string, duration time.Duration, stop func()) (asked, answered int) {
	t.Helper()
	defer stop()
	client := dns.Client{Timeout: time.Second, Dialer: &net.Dialer{Timeout: time.Second, LocalAddr: &net.UDPAddr{IP: net.IPv4(127, 99, 0, 1)}}}
	over := dns.Client{Timeout: 2 * time.Second, Net: "tcp"}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var before, after uint64
	for began := time.Now(); time.Since(began) < duration; <-tick.C {
		asked++
		m := secured("www.example.com.", dns.TypeA, false)
		for range 3 {
			out, _, err := client.Exchange(m, address)
			if err == nil && out.Truncated {
				out, _, err = over.Exchange(m, address)
			}
			if err == nil && len(out.Answer) > 0 {
				answered++
				break
			}
		}
		if before == 0 && time.Since(began) > duration/4 {
			before = heap()
		}
	}
	after = heap()
	t.Logf("heap: %d KiB after a quarter, %d KiB at the end", before>>10, after>>10)
	if after > before+16<<20 {
		t.Errorf("memory grew from %d to %d bytes", before, after)
	}
	return asked, answered
}

func heap() uint64 {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}
