package cli

import (
	"path/filepath"
	"strings"
	"testing"

	"vmcsnote/guest"
)

// TestFileNames: whatever a machine is called, its file is a new one in the
// directory.
func TestFileNames(t *testing.T) {
	names := make(fileNames)
	for i, tt := range []struct{ name, machine, want string }{
		{"a name", "web01", "web01.core"},
		{"the same again", "web01", "web01-guest-1.core"},
		{"in other case", "WEB01", "WEB01-guest-2.core"},
		{"no name", "", "guest-3.core"},
		{"a path", "../../etc/passwd", "_.._etc_passwd.core"},
		{"the parent", "..", "guest-5.core"},
		{"hidden", ".bashrc", "bashrc.core"},
		{"a flag", "--force", "force.core"},
		{"for a terminal", "a\x1b[2J\nb", "a_[2J_b.core"},
		{"what another one becomes", "web01-guest-9", "web01-guest-9.core"},
		{"and a third", "web01", "web01-guest-10.core"},
		{"another alphabet", "сервер", "______.core"},
		{"process and pid", "qemu-kvm[4711]", "qemu-kvm[4711].core"},
		{"long", strings.Repeat("x", 5000), strings.Repeat("x", 100) + ".core"},
		{"and long again", strings.Repeat("x", 5000), strings.Repeat("x", 100) + "-guest-14.core"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := names.of(&guest.Machine{Number: i, Name: tt.machine})
			if got != tt.want || filepath.Base(got) != got {
				t.Errorf("%q, expected %q", got, tt.want)
			}
		})
	}
	if got := (fileNames{"a.core": true, "a-guest-1.core": true}).of(&guest.Machine{Number: 1, Name: "a"}); got != "a-guest-1-1.core" {
		t.Errorf("%q", got)
	}
}
