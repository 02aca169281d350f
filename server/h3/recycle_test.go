package h3

import (
	"sync"
	"testing"
)

// TestReprioritiseAtTheEnd: a PRIORITY_UPDATE that comes as its response ends finds
// either that response or nothing: never what is used again for another.
func TestReprioritiseAtTheEnd(t *testing.T) {
	e := start(t, setup{})
	newTalk(t, e.dial()).ask(headersFrame(getFields("/20000")...)).response()
	var clients sync.WaitGroup
	for range 4 {
		c := newTalk(t, e.dial())
		updates := c.uni(streamControl, frame(frameSettings, nil))
		clients.Go(func() {
			for i := range uint64(60) {
				s := c.ask(headersFrame(getFields("/20000")...)) // a goroutine of its own
				b := frame(framePriorityRequest, append(varints(4*i), "u=1"...))
				for range 6 {
					_, _ = updates.Write(b)
				}
				s.response()
			}
		})
	}
	clients.Wait()
}
