package dnsgeo

import (
	"encoding/hex"
	"net/netip"
	"testing"
	"time"
)

// The examples of the SipHash paper's appendix and its reference code: key
// 00..0f, messages 00, 00 01, ... of these lengths.
func TestSiphash(t *testing.T) {
	var key [16]byte
	message := make([]byte, 64)
	for i := range message {
		message[i] = byte(i)
	}
	copy(key[:], message)
	for n, want := range map[int]uint64{
		0: 0x726fdb47dd0e0e31, 1: 0x74f839c593dc67fd, 7: 0xab0200f58b01d137,
		8: 0x93f5f5799a932462, 15: 0xa129ca6149be45e5, 63: 0x958a324ceb064572,
	} {
		if got := siphash(sipKeyOf(key), message[:n]); got != want {
			t.Errorf("of %d bytes: %#x, want %#x", n, got, want)
		}
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func jarOf(t *testing.T, keys ...string) *jar {
	j := new(jar)
	for _, key := range keys {
		j.keys = append(j.keys, sipKeyOf([16]byte(unhex(t, key))))
	}
	return j
}

// RFC 9018 Appendix A. The example A.3 renews a cookie that is older than the hour
// of section 4.3, so that by the text it is no good; its reserved bytes are kept
// in the hash all the same.
func TestCookieExamples(t *testing.T) {
	const first, second = "e5e973e5a6b2a43f48e7dc849e37bfcf", "445536bcd2513298075a5d379663c962"
	tests := []struct {
		name, keys0, keys1, from, query string
		at                              int64
		verdict                         cookieVerdict
		reply                           string
	}{
		{"A.1 a new cookie", first, "", "198.51.100.100", "2464c4abcf10c957", 1559731985, cookieClient,
			"2464c4abcf10c957010000005cf79f111f8130c3eee29480"},
		{"A.2 a renewed cookie", first, "", "198.51.100.100", "2464c4abcf10c957010000005cf79f111f8130c3eee29480", 1559734385, cookieRenew,
			"2464c4abcf10c957010000005cf7a871d4a564a1442aca77"},
		{"A.3 reserved bytes", first, "", "203.0.113.203", "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5", 1559727985, cookieGood, ""},
		{"A.3 a renewed cookie", first, "", "203.0.113.203", "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5", 1559734700, cookieBad,
			"fc93fc62807ddb86010000005cf7a9acf73a7810aca2381e"},
		{"A.4 another secret", second, "dd3bdf9344b678b185a6f5cb60fca715", "2001:db8:220:1:59de:d0f4:8769:82b8",
			"22681ab97d52c298010000005cf7c57926556bd0934c72f8", 1559741961, cookieRenew,
			"22681ab97d52c298010000005cf7c609a6bb79d16625507a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			keys := []string{tt.keys0}
			if tt.keys1 != "" {
				keys = append(keys, tt.keys1)
			}
			j, from, now, query := jarOf(t, keys...), netip.MustParseAddr(tt.from), time.Unix(tt.at, 0), unhex(t, tt.query)
			if got := j.judge(query, from, now); got != tt.verdict {
				t.Errorf("verdict %d, want %d", got, tt.verdict)
			}
			if tt.reply == "" {
				return
			}
			var reply [cookieBytes]byte
			j.bake(reply[:], query, from, now)
			if got := hex.EncodeToString(reply[:]); got != tt.reply {
				t.Errorf("reply\n%s, want\n%s", got, tt.reply)
			}
			if got := j.judge(reply[:], from, now); got != cookieGood {
				t.Errorf("our own is judged %d", got)
			}
		})
	}
}

func TestCookieRefused(t *testing.T) {
	j, err := newJar([]byte("shared"))
	if err != nil {
		t.Fatal(err)
	}
	from, now := netip.MustParseAddr("192.0.2.1"), time.Unix(1_700_000_000, 0)
	var good [cookieBytes]byte
	j.bake(good[:], []byte("clientsc"), from, now)
	changed := good
	changed[2] ^= 1
	later := good
	later[15]++ // the timestamp is under the hash
	for _, tt := range []struct {
		name   string
		cookie []byte
		from   string
		after  time.Duration
		want   cookieVerdict
	}{
		{"good", good[:], "192.0.2.1", 0, cookieGood},
		{"the same by IPv6-mapped address", good[:], "::ffff:192.0.2.1", 0, cookieGood},
		{"half an hour", good[:], "192.0.2.1", 30 * time.Minute, cookieGood},
		{"over half an hour", good[:], "192.0.2.1", 31 * time.Minute, cookieRenew},
		{"over an hour", good[:], "192.0.2.1", 61 * time.Minute, cookieBad},
		{"from a clock a little ahead", good[:], "192.0.2.1", -5 * time.Minute, cookieGood},
		{"from the future", good[:], "192.0.2.1", -6 * time.Minute, cookieBad},
		{"from elsewhere", good[:], "192.0.2.2", 0, cookieBad},
		{"with another client's part", changed[:], "192.0.2.1", 0, cookieBad},
		{"with another time", later[:], "192.0.2.1", 0, cookieBad},
		{"of another maker's form", append(good[:8:8], make([]byte, 8)...), "192.0.2.1", 0, cookieBad},
		{"empty", nil, "192.0.2.1", 0, cookieMalformed},
		{"short", good[:7], "192.0.2.1", 0, cookieMalformed},
		{"between", good[:12], "192.0.2.1", 0, cookieMalformed},
		{"long", make([]byte, 41), "192.0.2.1", 0, cookieMalformed},
	} {
		if got := j.judge(tt.cookie, netip.MustParseAddr(tt.from), now.Add(tt.after)); got != tt.want {
			t.Errorf("%s: verdict %d, want %d", tt.name, got, tt.want)
		}
	}
	others, _ := newJar([]byte("another"), []byte("shared"))
	if got := others.judge(good[:], from, now); got != cookieRenew {
		t.Errorf("a cookie of the secret before: %d, want that it is renewed", got)
	}
	if n := testing.AllocsPerRun(100, func() { j.judge(good[:], from, now); j.bake(good[:], good[:], from, now) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
