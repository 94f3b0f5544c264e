package kvm

import "testing"

// HF_GUEST_MASK has moved to where AMD's GIF was.
func TestInGuest(t *testing.T) {
	for _, tt := range []struct {
		name    string
		hflags  uint64
		intel   bool
		release string
		want    bool
	}{
		{"nothing set", 0, false, "6.12.1-amd64", false},
		{"the old bit", 1 << 5, true, "5.10.0-46-amd64", true},
		{"the old bit, with GIF", 1<<5 | 1, false, "5.10.0-46-amd64", true},
		{"GIF alone", 1, false, "5.10.0-46-amd64", false},
		{"GIF alone, in the last release with it", 1, false, "6.3.13", false},
		{"the new bit", 1, false, "6.4.0", true},
		{"the new bit, a release candidate", 1, false, "6.10-rc3", true},
		{"the new bit, another major release", 1, false, "7.0.13+deb13-amd64", true},
		{"Intel has no GIF, whatever the release", 1, true, "5.14.0-503.el9", true},
		{"no release", 1, false, "", false},
		{"a release that is no number", 1, false, "custom", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := inGuest(tt.hflags, tt.intel, tt.release); got != tt.want {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}
