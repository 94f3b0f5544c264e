package linux

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/pkg/errors"
)

// entries is memory of 8-byte words by their address, which has nothing else.
type entries map[uint64]uint64

func (m entries) ReadPhys(p []byte, addr uint64) (int, error) {
	if addr>>40 != 0 {
		return 0, errors.New("no such memory")
	}
	for i := range p {
		at := addr + uint64(i)
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], m[at&^7])
		p[i] = b[at&7]
	}
	return len(p), nil
}

// On a host whose memory is encrypted (SME) all entries of its page tables have
// the C-bit, which is no part of an address.
func TestEncryptedHost(t *testing.T) {
	const cbit = 1 << 47
	direct := uint64(0xffff888000000000)
	mem := entries{
		0x1000000 + 8*273: cbit | 0x2003, // swapper_pg_dir
		0x2000:            cbit | 0x3003,
		0x3000:            cbit | 0x200083,
	}
	info := fmt.Sprintf("SYMBOL(swapper_pg_dir)=%x\nNUMBER(phys_base)=0\nNUMBER(sme_mask)=%d\n", uint64(imageStart+0x1000000), uint64(cbit))
	k, err := Open(mem, info)
	if err != nil {
		t.Fatal(err)
	}
	if phys, size, err := k.Phys(direct + 0x10); phys != 0x200010 || size != 2<<20-0x10 || err != nil || k.EncryptionMask() != cbit || k.Levels() != 4 {
		t.Errorf("%#x, %#x bytes (%v), mask %#x", phys, size, err, k.EncryptionMask())
	}
}
