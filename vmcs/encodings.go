package vmcs

// The fields that the package itself reads, by their encodings. Spelt as in
// the SDM, so that they are not taken for fields of Go structures.
const (
	encVPID Encoding = 0x0000

	encGuestCSSelector Encoding = 0x0802
	encHostESSelector  Encoding = 0x0c00
	encHostCSSelector  Encoding = 0x0c02
	encHostTRSelector  Encoding = 0x0c0c

	encIOBitmapA     Encoding = 0x2000
	encIOBitmapB     Encoding = 0x2002
	encMSRBitmap     Encoding = 0x2004
	encVirtualAPIC   Encoding = 0x2012
	encEPTPointer    Encoding = 0x201a
	encTertiary      Encoding = 0x2034
	encLinkPointer   Encoding = 0x2800
	encGuestEFER     Encoding = 0x2806
	encHostEFER      Encoding = 0x2c02
	encSecondaryExit Encoding = 0x2044

	encPinBased         Encoding = 0x4000
	encCPUBased         Encoding = 0x4002
	encExitControls     Encoding = 0x400c
	encEntryControls    Encoding = 0x4012
	encSecondary        Encoding = 0x401e
	encExitReason       Encoding = 0x4402
	encExitIntrInfo     Encoding = 0x4404
	encGuestESLimit     Encoding = 0x4800
	encGuestESRights    Encoding = 0x4814
	encGuestCSRights    Encoding = 0x4816
	encInterruptibility Encoding = 0x4824
	encActivity         Encoding = 0x4826

	encCR0Mask     Encoding = 0x6000
	encCR4Mask     Encoding = 0x6002
	encCR0Shadow   Encoding = 0x6004
	encCR4Shadow   Encoding = 0x6006
	encGuestCR0    Encoding = 0x6800
	encGuestCR3    Encoding = 0x6802
	encGuestCR4    Encoding = 0x6804
	encGuestESBase Encoding = 0x6806
	encGuestDR7    Encoding = 0x681a
	encGuestRIP    Encoding = 0x681e
	encGuestRFLAGS Encoding = 0x6820
	encHostCR0     Encoding = 0x6c00
	encHostCR3     Encoding = 0x6c02
	encHostCR4     Encoding = 0x6c04
	encHostRSP     Encoding = 0x6c14
	encHostRIP     Encoding = 0x6c16
)
