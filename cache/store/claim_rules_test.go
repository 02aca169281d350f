package store

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A directory keeps what it has only for the log that it was filled under, and only
// when it was there while purges were forgotten.
func TestClaim(t *testing.T) {
	one, other := [16]byte{1, 2}, [16]byte{3}
	for _, tt := range []struct {
		name          string
		first         bool // claimed before it was filled, at start 5
		incarnation   [16]byte
		boot, dropped uint64
		kept          bool
	}{
		{"the next start", true, one, 6, 5, true},
		{"many starts later, nothing forgotten since", true, one, 60, 5, true},
		{"the same start again", true, one, 5, 0, true},
		{"away while purges were forgotten", true, one, 7, 6, false},
		{"another log", true, other, 6, 0, false},
		{"filled under no log", false, one, 1, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			b := openTiered(t, dir)
			if tt.first {
				if emptied, err := b.Claim(one, 5, 4); err != nil || emptied {
					t.Fatal("first:", emptied, err)
				}
			}
			b.start(t)
			if err := b.put(t, "a", 2*BodyMax, Meta{}); err != nil {
				t.Fatal(err)
			}
			b.stop()
			again := openTiered(t, dir)
			emptied, err := again.Claim(tt.incarnation, tt.boot, tt.dropped)
			if err != nil || emptied == tt.kept {
				t.Error("emptied:", emptied, err)
			}
			again.start(t)
			if again.has("a") != tt.kept {
				t.Error("kept:", !tt.kept)
			}
			if err := again.put(t, "b", 2*BodyMax, Meta{}); err != nil || !again.has("b") {
				t.Error("takes nothing:", err)
			}
			again.stop()
			third := openTiered(t, dir)
			if emptied, err := third.Claim(tt.incarnation, tt.boot+1, tt.boot); err != nil || emptied {
				t.Error("the next start:", emptied, err)
			}
			third.start(t)
			if !third.has("b") {
				t.Error("lost")
			}
		})
	}
}

// A mark that is damaged is none, and an older edge reads a format file with one.
func TestDecodeClaim(t *testing.T) {
	f := format{seed: 7, id: 9, claim: claim{true, [16]byte{15: 255}, 12}}
	text := string(f.encode())
	if got, err := decodeFormat([]byte(text)); err != nil || got != f {
		t.Errorf("%+v, %v", got, err)
	}
	bare := format{seed: 7, id: 9}
	for _, damaged := range []string{
		string(bare.encode()), text[:len(text)-1], text[:len(text)-8], strings.Replace(text, "purges 00", "purges ", 1),
		strings.Replace(text, "purges 0", "purges x", 1), strings.Replace(text, "boot", "boat", 1),
	} {
		if got, err := decodeFormat([]byte(damaged)); err != nil || got != bare {
			t.Errorf("%q: %+v, %v", damaged, got, err)
		}
	}
}

// A directory of the first days has no mark: it is read, and emptied when claimed.
func TestClaimOldStore(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "golden-v1"))); err != nil {
		t.Fatal(err)
	}
	found, err := Inspect(dir)
	if err != nil || found.Objects == 0 {
		t.Fatal(found.Objects, "objects", err)
	}
	b := openTiered(t, dir)
	if emptied, err := b.Claim([16]byte{1}, 1, 0); err != nil || !emptied {
		t.Error(emptied, err)
	}
	b.start(t).stop()
	if found, err = Inspect(dir); err != nil || found.Objects != 0 || found.Segments != 0 {
		t.Errorf("%+v, %v", found, err)
	}
}
