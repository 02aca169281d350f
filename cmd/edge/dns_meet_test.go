package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"edgecdn/cluster"
)

func TestMet(t *testing.T) {
	heard := func(name string) cluster.Member {
		return cluster.Member{Name: name, Status: cluster.Alive, ReportAt: time.Now()}
	}
	self := cluster.Member{Name: "self", Self: true, Status: cluster.Alive, ReportAt: time.Now()}
	unheard := cluster.Member{Name: "c", Status: cluster.Alive}
	for name, c := range map[string]struct {
		members []cluster.Member
		want    bool
	}{
		"alone":                      {[]cluster.Member{self}, false},
		"one that is heard from":     {[]cluster.Member{heard("b"), self}, true},
		"one that is known of alone": {[]cluster.Member{self, unheard}, false},
		"not all":                    {[]cluster.Member{heard("b"), unheard, self}, false},
		"one that was known and has not come": {[]cluster.Member{heard("b"), self,
			{Name: "c", Status: cluster.Dead}, {Name: "d", Status: cluster.Left}}, true},
		"one that is gone for good": {[]cluster.Member{heard("b"), self, {Name: "c", Status: cluster.Alive, Gone: true}}, true},
		"only such as are dead":     {[]cluster.Member{self, {Name: "c", Status: cluster.Dead, ReportAt: time.Now()}}, false},
	} {
		if got := met(c.members); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestMeet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		after := func(d time.Duration) func() []cluster.Member {
			return func() []cluster.Member {
				if time.Since(began) < d {
					return nil
				}
				return []cluster.Member{{Name: "b", Status: cluster.Alive, ReportAt: began}}
			}
		}
		for _, c := range []struct {
			comes, want time.Duration
			met         bool
		}{{0, 0, true}, {time.Second, time.Second, true}, {time.Hour, meetMax, false}} {
			began = time.Now()
			if got, took := meet(t.Context(), after(c.comes)), time.Since(began); got != c.met || took != c.want {
				t.Errorf("another after %v: %v after %v, want %v", c.comes, got, took, c.want)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began = time.Now()
		if got, took := meet(ctx, after(time.Hour)), time.Since(began); got || took != time.Second {
			t.Errorf("stopped meanwhile: %v after %v", got, took)
		}
	})
}
