package gate

import "testing"

func TestFieldNameTables(t *testing.T) {
	for lower, canonical := range canonicalNames {
		if got := lowerName(canonical); got != lower {
			t.Errorf("%q is not %q", got, lower)
		}
		if canonicalName(lower) != canonical {
			t.Errorf("%q is not %q", lower, canonical)
		}
	}
	if lowerName("X-Unknown") != "x-unknown" || canonicalName("x-unknown") != "X-Unknown" {
		t.Error("names outside of the table")
	}
}
