package unit

import "testing"

func TestBytes(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want Bytes
		text string // as printed
	}{
		{"0", 0, "0B"},
		{"4097", 4097, "4097B"},
		{"64MiB", 64 * MiB, "64MiB"},
		{" 64 mib ", 64 * MiB, "64MiB"},
		{"1.5GiB", 1536 * MiB, "1536MiB"},
		{"10GB", 10e9, "10GB"},
		{"1kB", 1000, "1kB"},
		{"1024", KiB, "1KiB"},
		{"2TiB", 2 * TiB, "2TiB"},
		{"7b", 7, "7B"},
	} {
		var got Bytes
		if err := got.UnmarshalText([]byte(tt.in)); err != nil || got != tt.want || got.String() != tt.text {
			t.Errorf("%q: %d, printed %s, %v", tt.in, got, got, err)
		}
	}
	for _, in := range []string{"", "MiB", "-1", "-1.5kB", "1 2", "0x10", "9999999999TiB", "1e30", "NaN", "inf", "1PB"} {
		var got Bytes
		if err := got.UnmarshalText([]byte(in)); err == nil {
			t.Errorf("%q was taken as %d", in, got)
		}
	}
}

// What is printed reads back as the same size.
func FuzzBytes(f *testing.F) {
	f.Add("1.5GiB")
	f.Add("10 kB")
	f.Fuzz(func(t *testing.T, s string) {
		var b, again Bytes
		if b.UnmarshalText([]byte(s)) != nil {
			return
		}
		if err := again.UnmarshalText([]byte(b.String())); err != nil || again != b || b < 0 {
			t.Errorf("%q is %d, which prints %s, which is %d: %v", s, b, b, again, err)
		}
	})
}
