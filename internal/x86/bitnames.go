package x86

import (
	"iter"
	"math/bits"
	"strconv"
	"strings"
)

// BitNames names bits: "N NAME,NAME,…" for bits N, N+1 and on, several of these
// lists separated by semicolons, "-" for a bit without a name.
type BitNames string

// Bits of registers that processors of both vendors have.
const (
	CR0Names BitNames = "0 PE,MP,EM,TS,ET,NE;16 WP;18 AM;29 NW,CD,PG"
	CR4Names BitNames = "0 VME,PVI,TSD,DE,PSE,PAE,MCE,PGE,PCE,OSFXSR,OSXMMEXCPT,UMIP,LA57,VMXE,SMXE,-,FSGSBASE,PCIDE,OSXSAVE,KL,SMEP,SMAP,PKE,CET,PKS," +
		"UINTR;28 LAM_SUP;32 FRED"
	EFERNames      BitNames = "0 SCE;8 LME;10 LMA,NX,SVME,LMSLE,FFXSR,TCE;17 MCOMMIT,INTWB;20 UAIE,AIBRSE"
	RFLAGSNames    BitNames = "0 CF;2 PF;4 AF;6 ZF,SF,TF,IF,DF,OF,IOPL0,IOPL1,NT;16 RF,VM,AC,VIF,VIP,ID"
	ExceptionNames BitNames = "0 DE,DB,NMI,BP,OF,BR,UD,NM,DF;10 TS,NP,SS,GP,PF;16 MF,AC,MC,XM,VE,CP;28 HV,VC,SX"
)

// Of returns the names of the bits set in v, in their order; those without a
// name are "bit N".
func (n BitNames) Of(v uint64) (set []string) {
	if v == 0 {
		return nil
	}
	var names [64]string
	for bit, name := range n.all() {
		if bit < len(names) && names[bit] == "" {
			names[bit] = name
		}
	}
	for ; v != 0; v &= v - 1 {
		bit := bits.TrailingZeros64(v)
		if names[bit] == "" {
			names[bit] = "bit " + strconv.Itoa(bit)
		}
		set = append(set, names[bit])
	}
	return set
}

// Name returns a bit's name; false if it has none.
func (n BitNames) Name(bit int) (string, bool) {
	for b, name := range n.all() {
		if b == bit {
			return name, true
		}
	}
	return "", false
}

// all yields the bits that have names.
func (n BitNames) all() iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		for list := range strings.SplitSeq(string(n), ";") {
			first, names, _ := strings.Cut(list, " ")
			bit, _ := strconv.Atoi(first)
			for name := range strings.SplitSeq(names, ",") {
				if name != "-" && !yield(bit, name) {
					return
				}
				bit++
			}
		}
	}
}
