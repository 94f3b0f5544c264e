package x86

// NPT returns the format of AMD's nested page tables of 4 or 5 levels (APM
// volume 2, "Nested Paging"): that of the host's page tables, without sign
// extension, because the addresses are guest-physical. encrypted is the host's
// C-bit, 0 without one.
func NPT(levels int, encrypted uint64) *Format {
	return &Format{Name: "NPT", Levels: levels, Width: 8, Encrypted: encrypted, Decode: KVMPages(encrypted)}
}

// KVMPages returns a decoder for tables that KVM makes in the format of page
// tables: NPT and shadow page tables. It decodes as the processor does. KVM
// sets reserved bits of the address, up to bit 51, in entries whose accesses it
// emulates. The C-bit, which is no part of the address, can be bit 51 itself.
func KVMPages(encrypted uint64) Decoder {
	mmio := uint64(1 << 51)
	if encrypted == mmio {
		mmio >>= 1
	}
	return func(level int, entry uint64) (addr uint64, leaf bool, err error) {
		switch {
		case entry&Present == 0:
			return 0, false, ErrNotMapped
		case entry&mmio != 0:
			return 0, false, ErrMMIO
		}
		addr, leaf, err = DecodePage(level, entry)
		if leaf && level > 1 && entry&AddrMask&(Cover(level)-1)&^largePAT != 0 {
			return 0, false, ErrReserved
		}
		return addr, leaf, err
	}
}

// largePAT is the PAT bit of a large page: no address bit, and not reserved.
const largePAT = 1 << 12
