package main

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// logged is a log of writes: of the sector at, filled with the byte b; a flush
// where b is 0.
func logged(t *testing.T, writes ...struct {
	at uint64
	b  byte
}) string {
	t.Helper()
	sector := func(v any) []byte {
		var b bytes.Buffer
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
		return append(b.Bytes(), make([]byte, 512-b.Len())...)
	}
	log := sector(superblock{magic, 1, uint64(len(writes)), 512})
	for _, w := range writes {
		if w.b == 0 {
			log = append(log, sector(entry{Flags: flagFlush})...)
			continue
		}
		log = append(log, sector(entry{Sector: w.at, Sectors: 1})...)
		log = append(log, bytes.Repeat([]byte{w.b}, 512)...)
	}
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, log, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRun(t *testing.T) {
	type write = struct {
		at uint64
		b  byte
	}
	// Two writes that depend on each other, in whatever order: B says that A is
	// there.
	for _, tt := range []struct {
		name   string
		writes []write
		safe   bool
	}{
		{"flushed in between", []write{{0, 'A'}, {0, 0}, {1, 'B'}, {0, 0}}, true},
		{"not flushed in between", []write{{0, 'A'}, {1, 'B'}, {0, 0}, {2, 'C'}, {0, 0}}, false},
		{"lost when never flushed", []write{{1, 'B'}}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			disk, work := filepath.Join(dir, "disk"), filepath.Join(dir, "work")
			if err := os.WriteFile(disk, make([]byte, 4*512), 0o600); err != nil {
				t.Fatal(err)
			}
			failed := 0
			for seed := range uint64(8) { // whether a write is lost is chance
				n, err := run(logged(t, tt.writes...), disk, work, seed, "sh", "-c", `disk=$(tr -d "\\000" <"$1"); case $disk in *B*) case $disk in *A*) ;; *) exit 1 ;; esac ;; esac`, "sh", work)
				if err != nil {
					t.Fatal(err)
				}
				failed += n
			}
			if safe := failed == 0; safe != tt.safe {
				t.Errorf("%d bad disks, expected safe to be %v", failed, tt.safe)
			}
		})
	}
}

func TestNoLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := run(path, path, path, 1, "true"); err == nil || !strings.Contains(err.Error(), "no log of writes") {
		t.Errorf("got %v", err)
	}
}
