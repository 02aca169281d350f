//go:build !race

package h3

import (
	"io"
	"testing"
)

// TestHitAllocatesNothing has the engine's own part of a hit, from the field
// section to the answer's bytes, leave no garbage. What quic-go allocates for each
// stream remains. The race detector makes pools forget.
func TestHitAllocatesNothing(t *testing.T) {
	e := start(t, setup{altSvc: `h3=":443"`})
	newTalk(t, e.dial()).ask(headersFrame(getFields("/1000")...)).response()
	block := appendFields([]byte{0, 0}, getFields("/1000", usual...))
	c := e.begun()[0]
	limits := c.limits()
	r := &request{conn: c, input: input{need: -1, ended: io.EOF}}
	if n := testing.AllocsPerRun(200, func() {
		r.out, r.hit, r.rest, r.copied = r.out[:0], false, nil, 0
		if err := r.understand(block, limits); err != nil {
			t.Fatal(err)
		}
		r.decide()
		if !r.hit {
			t.Fatal("no hit")
		}
		r.compose()
		r.x.Hit.Release()
		r.x.End()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if len(r.out) < 1000 {
		t.Errorf("an answer of %d bytes", len(r.out))
	}
}
