package dnsgeo

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// A map of random networks that lie in each other says of any address what the
// longest of them says, and of all of the network that it names as the answer's.
func TestCIDRMapAgainstAModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 1))
	for round := range 300 {
		v6 := round%2 == 1
		random := func() netip.Addr {
			if v6 {
				a := [16]byte{0x20, 1, 0xd, 0xb8 | byte(rnd.IntN(2)), byte(rnd.IntN(4)), 15: byte(rnd.IntN(256))}
				if rnd.IntN(8) == 0 {
					a = [16]byte{}
				}
				if rnd.IntN(8) == 0 {
					for i := range a {
						a[i] = 0xff
					}
				}
				return netip.AddrFrom16(a)
			}
			return netip.AddrFrom4([4]byte{[]byte{0, 10, 192, 255}[rnd.IntN(4)], byte(rnd.IntN(2) * 255), byte(rnd.IntN(3)), byte(rnd.IntN(256))})
		}
		model := map[netip.Prefix]string{}
		var file strings.Builder
		for range rnd.IntN(12) {
			a := random()
			p, _ := a.Prefix(rnd.IntN(a.BitLen() + 1))
			site := string(rune('a' + rnd.IntN(5)))
			model[p] = site
			fmt.Fprintf(&file, "%v %s # remark\n", p, site)
		}
		m, err := readCIDRMap(strings.NewReader(file.String()))
		if err != nil {
			t.Fatal(err)
		}
		want := func(a netip.Addr) string {
			best, site := -1, ""
			for p, s := range model {
				if p.Contains(a) && p.Bits() > best {
					best, site = p.Bits(), s
				}
			}
			return site
		}
		for range 60 {
			a := random()
			got, network := m.Locate(a)
			if got.Site != want(a) {
				t.Fatalf("seed %d: %v is at %q, want %q, of\n%s", seed, a, got.Site, want(a), file.String())
			}
			for range 20 { // others of the network have the same answer
				b := random()
				if network.Masked().Contains(b) && want(b) != got.Site {
					t.Fatalf("seed %d: %v lends its answer for %v to %v, of\n%s", seed, a, network, b, file.String())
				}
			}
		}
	}
}

func TestCIDRMapRefuses(t *testing.T) {
	for _, text := range []string{"192.0.2.0/24", "192.0.2.0/33 fra", "here fra", "192.0.2.0/24 91,0", "::ffff:0:0/90 fra", "fe80::1%eth0 fra"} {
		if _, err := readCIDRMap(strings.NewReader("\n" + text + "\n")); err == nil || !strings.Contains(err.Error(), "line 2") {
			t.Errorf("%q: %v, want an error that names line 2", text, err)
		}
	}
}

// millionNetworks is a map of a million of them.
func millionNetworks(tb testing.TB) *cidrMap {
	tb.Helper()
	var file strings.Builder
	for i := range 1_000_000 {
		fmt.Fprintf(&file, "%d.%d.%d.0/%d s%d\n", 1+i>>14&63, i>>6&255, i&63*4, 22+i%3, i%97)
	}
	m, err := readCIDRMap(strings.NewReader(file.String()))
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

func BenchmarkCIDRMap(b *testing.B) {
	m := millionNetworks(b)
	n := uint32(0)
	for b.Loop() {
		n += 0x9e3779b9
		m.Locate(netip.AddrFrom4([4]byte{byte(n>>24) & 63, byte(n >> 16), byte(n >> 8), byte(n)}))
	}
}
