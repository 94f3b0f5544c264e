package x86

import "testing"

// A countedMemory counts how often it is read.
type countedMemory struct{ reads int }

func (m *countedMemory) ReadPhys(p []byte, _ uint64) (int, error) {
	m.reads++
	clear(p)
	return len(p), nil
}

// Tables are kept once they are read, until they are forgotten.
func TestForget(t *testing.T) {
	m := new(countedMemory)
	tables := NewTables(m, EPT(4, false), 0x1000)
	tables.Translate(0)
	first := m.reads
	if tables.Translate(0x5000); m.reads != first || first == 0 {
		t.Errorf("%d reads, and %d the second time", first, m.reads-first)
	}
	tables.Forget()
	if tables.Translate(0); m.reads != 2*first {
		t.Errorf("%d reads in all, want %d: tables were kept", m.reads, 2*first)
	}
}
