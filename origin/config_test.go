package origin

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestConfigValidate(t *testing.T) {
	const missing = "url: is missing: write scheme, host and port, such as http://127.0.0.1:9000"
	tests := []struct {
		name string
		cfg  Config
		want []string
	}{
		{"least", Config{URL: "http://127.0.0.1:9000"}, nil},
		{"all", Config{URL: "https://[::1]/base", Host: "www.example.com:81", ServerName: "a.example", CA: "ca.pem", Connections: 1, DialTimeout: time.Second}, nil},
		{"nothing", Config{}, []string{missing}},
		{"scheme", Config{URL: "ftp://x"}, []string{`url: "ftp://x" does not begin with http:// or https://`}},
		{"no scheme", Config{URL: "localhost:9000"}, []string{`url: "localhost:9000" does not begin with http:// or https://`}},
		{"no host", Config{URL: "http:///x"}, []string{`url: "http:///x" names no host`}},
		{"port", Config{URL: "http://x:0"}, []string{`url: "0" is no port: write a number from 1 to 65535`}},
		{"secret", Config{URL: "http://u:p@x"}, []string{"url: holds a user name or password: set the Authorization field under request of the host instead"}},
		{"query", Config{URL: "http://x?y"}, []string{`url: "http://x?y" has a query or fragment: leave it out`}},
		{"TLS without TLS", Config{URL: "http://x", ServerName: "x", Insecure: true}, []string{
			"server_name: is for TLS only, but the url begins with http: leave it out or write https",
			"insecure: is for TLS only, but the url begins with http: leave it out or write https",
		}},
		{"insecure", Config{URL: "https://x", CA: "x", Insecure: true}, []string{"insecure: accepts any certificate, so that ca has no effect: keep one of them"}},
		{"names", Config{URL: "https://x", Host: "http://x", ServerName: "x:1"}, []string{
			`host: "http://x" is not a host: write a name, with a port if it is not the usual one`,
			`server_name: "x:1" is not a name in a certificate: write it without scheme and port`,
		}},
		{"bounds", Config{URL: "http://x", Connections: -1, DialTimeout: time.Nanosecond, IdleTimeout: 25 * time.Hour}, []string{
			"connections: -1 is out of bounds: choose from 1 to 65536",
			"dial_timeout: 1ns is out of bounds: choose from 1ms to 24h",
			"idle_timeout: 25h0m0s is out of bounds: choose from 1ms to 24h",
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			test.cfg.Validate(func(path, problem string) { got = append(got, path+": "+problem) })
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	(Config{URL: "http://x"}).WithDefaults().Validate(func(path, problem string) { t.Errorf("defaults: %s: %s", path, problem) })
}
