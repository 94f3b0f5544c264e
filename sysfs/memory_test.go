package sysfs_test

import (
	"os"
	"path/filepath"
	"testing"

	"vmcsnote/sysfs"
)

func TestMemAvailable(t *testing.T) {
	for text, want := range map[string]int64{
		"MemTotal:       24683776 kB\nMemAvailable:   16571392 kB\n": 16571392 << 10,
		"MemAvailable: 0 kB\n":                 0,
		"MemTotal: 1 kB\n":                     -1, // before Linux 3.14
		"MemAvailable: 9223372036854775 MB":    -1,
		"MemAvailable: 9223372036854775807 kB": -1,
		"MemAvailable:":                        -1,
		"":                                     -1,
	} {
		root := t.TempDir()
		os.Mkdir(filepath.Join(root, "proc"), 0o755)
		if err := os.WriteFile(filepath.Join(root, "proc/meminfo"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := sysfs.New(root).MemAvailable()
		if (err == nil) != (want >= 0) || err == nil && got != want {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	if _, err := sysfs.New(t.TempDir()).MemAvailable(); !os.IsNotExist(err) {
		t.Error(err)
	}
}
