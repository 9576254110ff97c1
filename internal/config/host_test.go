package config

import "testing"

func TestIsLoopbackHost_goes_by_the_name_alone(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]bool{
		"localhost": true, "LocalHost.": true, "127.0.0.1": true, "127.9.9.9": true, "::1": true, "::ffff:127.0.0.1": true,
		"": false, ".": false, "127.0.0.1.": false, "localhost.example": false, "localho\u017ft": false, "128.0.0.1": false, "::2": false, "::ffff:10.0.0.1": false, "0.0.0.0": false,
		"2130706433": false, "[::1]": false, "127.0.0.1:80": false,
	} {
		if got := IsLoopbackHost(host); got != want {
			t.Errorf("%q: got %t, want %t", host, got, want)
		}
	}
}
