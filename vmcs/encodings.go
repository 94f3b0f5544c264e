package vmcs

// The encodings of all fields that have a name (see [Fields]), spelt as Linux
// spells them. A 64-bit field's high half, where it has an encoding of its own,
// is the field's | 1.
const (
	// 16-bit controls
	VirtualProcessorID  Encoding = 0x0000
	PostedIntrNV        Encoding = 0x0002
	EPTPIndex           Encoding = 0x0004
	HLATPrefixSize      Encoding = 0x0006
	LastPIDPointerIndex Encoding = 0x0008

	// 16-bit guest state
	GuestESSelector   Encoding = 0x0800
	GuestCSSelector   Encoding = 0x0802
	GuestSSSelector   Encoding = 0x0804
	GuestDSSelector   Encoding = 0x0806
	GuestFSSelector   Encoding = 0x0808
	GuestGSSelector   Encoding = 0x080a
	GuestLDTRSelector Encoding = 0x080c
	GuestTRSelector   Encoding = 0x080e
	GuestIntrStatus   Encoding = 0x0810
	GuestPMLIndex     Encoding = 0x0812
	GuestUINV         Encoding = 0x0814

	// 16-bit host state
	HostESSelector Encoding = 0x0c00
	HostCSSelector Encoding = 0x0c02
	HostSSSelector Encoding = 0x0c04
	HostDSSelector Encoding = 0x0c06
	HostFSSelector Encoding = 0x0c08
	HostGSSelector Encoding = 0x0c0a
	HostTRSelector Encoding = 0x0c0c

	// 64-bit controls
	IOBitmapA               Encoding = 0x2000
	IOBitmapB               Encoding = 0x2002
	MSRBitmap               Encoding = 0x2004
	VMExitMSRStoreAddr      Encoding = 0x2006
	VMExitMSRLoadAddr       Encoding = 0x2008
	VMEntryMSRLoadAddr      Encoding = 0x200a
	ExecutiveVMCSPointer    Encoding = 0x200c
	PMLAddress              Encoding = 0x200e
	TSCOffset               Encoding = 0x2010
	VirtualApicPageAddr     Encoding = 0x2012
	ApicAccessAddr          Encoding = 0x2014
	PostedIntrDescAddr      Encoding = 0x2016
	VMFunctionControl       Encoding = 0x2018
	EPTPointer              Encoding = 0x201a
	EOIExitBitmap0          Encoding = 0x201c
	EOIExitBitmap1          Encoding = 0x201e
	EOIExitBitmap2          Encoding = 0x2020
	EOIExitBitmap3          Encoding = 0x2022
	EPTPListAddress         Encoding = 0x2024
	VMReadBitmap            Encoding = 0x2026
	VMWriteBitmap           Encoding = 0x2028
	VEInformationAddress    Encoding = 0x202a
	XSSExitBitmap           Encoding = 0x202c
	ENCLSExitingBitmap      Encoding = 0x202e
	SPPTablePointer         Encoding = 0x2030
	TSCMultiplier           Encoding = 0x2032
	TertiaryVMExecControl   Encoding = 0x2034
	ENCLVExitingBitmap      Encoding = 0x2036
	LowPASIDDirAddr         Encoding = 0x2038
	HighPASIDDirAddr        Encoding = 0x203a
	SharedEPTPointer        Encoding = 0x203c
	PCONFIGExitingBitmap    Encoding = 0x203e
	HLATPointer             Encoding = 0x2040
	PIDPointerTable         Encoding = 0x2042
	SecondaryVMExitControls Encoding = 0x2044
	IA32SpecCtrlMask        Encoding = 0x204a
	IA32SpecCtrlShadow      Encoding = 0x204c
	InjectedEventData       Encoding = 0x2052

	// 64-bit VM-exit information
	GuestPhysicalAddress Encoding = 0x2400
	OriginalEventData    Encoding = 0x2404

	// 64-bit guest state
	VMCSLinkPointer         Encoding = 0x2800
	GuestIA32DebugCtl       Encoding = 0x2802
	GuestIA32PAT            Encoding = 0x2804
	GuestIA32EFER           Encoding = 0x2806
	GuestIA32PerfGlobalCtrl Encoding = 0x2808
	GuestPDPTR0             Encoding = 0x280a
	GuestPDPTR1             Encoding = 0x280c
	GuestPDPTR2             Encoding = 0x280e
	GuestPDPTR3             Encoding = 0x2810
	GuestBNDCFGS            Encoding = 0x2812
	GuestIA32RTITCTL        Encoding = 0x2814
	GuestIA32LBRCtl         Encoding = 0x2816
	GuestIA32PKRS           Encoding = 0x2818
	GuestIA32FREDConfig     Encoding = 0x281a
	GuestIA32FREDRSP1       Encoding = 0x281c
	GuestIA32FREDRSP2       Encoding = 0x281e
	GuestIA32FREDRSP3       Encoding = 0x2820
	GuestIA32FREDSTKLVLS    Encoding = 0x2822
	GuestIA32FREDSSP1       Encoding = 0x2824
	GuestIA32FREDSSP2       Encoding = 0x2826
	GuestIA32FREDSSP3       Encoding = 0x2828

	// 64-bit host state
	HostIA32PAT            Encoding = 0x2c00
	HostIA32EFER           Encoding = 0x2c02
	HostIA32PerfGlobalCtrl Encoding = 0x2c04
	HostIA32PKRS           Encoding = 0x2c06
	HostIA32FREDConfig     Encoding = 0x2c08
	HostIA32FREDRSP1       Encoding = 0x2c0a
	HostIA32FREDRSP2       Encoding = 0x2c0c
	HostIA32FREDRSP3       Encoding = 0x2c0e
	HostIA32FREDSTKLVLS    Encoding = 0x2c10
	HostIA32FREDSSP1       Encoding = 0x2c12
	HostIA32FREDSSP2       Encoding = 0x2c14
	HostIA32FREDSSP3       Encoding = 0x2c16

	// 32-bit controls
	PinBasedVMExecControl     Encoding = 0x4000
	CPUBasedVMExecControl     Encoding = 0x4002
	ExceptionBitmap           Encoding = 0x4004
	PageFaultErrorCodeMask    Encoding = 0x4006
	PageFaultErrorCodeMatch   Encoding = 0x4008
	CR3TargetCount            Encoding = 0x400a
	VMExitControls            Encoding = 0x400c
	VMExitMSRStoreCount       Encoding = 0x400e
	VMExitMSRLoadCount        Encoding = 0x4010
	VMEntryControls           Encoding = 0x4012
	VMEntryMSRLoadCount       Encoding = 0x4014
	VMEntryIntrInfoField      Encoding = 0x4016
	VMEntryExceptionErrorCode Encoding = 0x4018
	VMEntryInstructionLen     Encoding = 0x401a
	TPRThreshold              Encoding = 0x401c
	SecondaryVMExecControl    Encoding = 0x401e
	PLEGap                    Encoding = 0x4020
	PLEWindow                 Encoding = 0x4022
	NotifyWindow              Encoding = 0x4024

	// 32-bit VM-exit information
	VMInstructionError    Encoding = 0x4400
	VMExitReason          Encoding = 0x4402
	VMExitIntrInfo        Encoding = 0x4404
	VMExitIntrErrorCode   Encoding = 0x4406
	IDTVectoringInfoField Encoding = 0x4408
	IDTVectoringErrorCode Encoding = 0x440a
	VMExitInstructionLen  Encoding = 0x440c
	VMXInstructionInfo    Encoding = 0x440e

	// 32-bit guest state
	GuestESLimit              Encoding = 0x4800
	GuestCSLimit              Encoding = 0x4802
	GuestSSLimit              Encoding = 0x4804
	GuestDSLimit              Encoding = 0x4806
	GuestFSLimit              Encoding = 0x4808
	GuestGSLimit              Encoding = 0x480a
	GuestLDTRLimit            Encoding = 0x480c
	GuestTRLimit              Encoding = 0x480e
	GuestGDTRLimit            Encoding = 0x4810
	GuestIDTRLimit            Encoding = 0x4812
	GuestESARBytes            Encoding = 0x4814
	GuestCSARBytes            Encoding = 0x4816
	GuestSSARBytes            Encoding = 0x4818
	GuestDSARBytes            Encoding = 0x481a
	GuestFSARBytes            Encoding = 0x481c
	GuestGSARBytes            Encoding = 0x481e
	GuestLDTRARBytes          Encoding = 0x4820
	GuestTRARBytes            Encoding = 0x4822
	GuestInterruptibilityInfo Encoding = 0x4824
	GuestActivityState        Encoding = 0x4826
	GuestSMBASE               Encoding = 0x4828
	GuestSysenterCS           Encoding = 0x482a
	VMXPreemptionTimerValue   Encoding = 0x482e

	// 32-bit host state
	HostIA32SysenterCS Encoding = 0x4c00

	// natural-width controls
	CR0GuestHostMask Encoding = 0x6000
	CR4GuestHostMask Encoding = 0x6002
	CR0ReadShadow    Encoding = 0x6004
	CR4ReadShadow    Encoding = 0x6006
	CR3TargetValue0  Encoding = 0x6008
	CR3TargetValue1  Encoding = 0x600a
	CR3TargetValue2  Encoding = 0x600c
	CR3TargetValue3  Encoding = 0x600e

	// natural-width VM-exit information
	ExitQualification  Encoding = 0x6400
	ExitIORCX          Encoding = 0x6402
	ExitIORSI          Encoding = 0x6404
	ExitIORDI          Encoding = 0x6406
	ExitIORIP          Encoding = 0x6408
	GuestLinearAddress Encoding = 0x640a

	// natural-width guest state
	GuestCR0                  Encoding = 0x6800
	GuestCR3                  Encoding = 0x6802
	GuestCR4                  Encoding = 0x6804
	GuestESBase               Encoding = 0x6806
	GuestCSBase               Encoding = 0x6808
	GuestSSBase               Encoding = 0x680a
	GuestDSBase               Encoding = 0x680c
	GuestFSBase               Encoding = 0x680e
	GuestGSBase               Encoding = 0x6810
	GuestLDTRBase             Encoding = 0x6812
	GuestTRBase               Encoding = 0x6814
	GuestGDTRBase             Encoding = 0x6816
	GuestIDTRBase             Encoding = 0x6818
	GuestDR7                  Encoding = 0x681a
	GuestRSP                  Encoding = 0x681c
	GuestRIP                  Encoding = 0x681e
	GuestRFLAGS               Encoding = 0x6820
	GuestPendingDbgExceptions Encoding = 0x6822
	GuestSysenterESP          Encoding = 0x6824
	GuestSysenterEIP          Encoding = 0x6826
	GuestSCET                 Encoding = 0x6828
	GuestSSP                  Encoding = 0x682a
	GuestIntrSSPTable         Encoding = 0x682c

	// natural-width host state
	HostCR0             Encoding = 0x6c00
	HostCR3             Encoding = 0x6c02
	HostCR4             Encoding = 0x6c04
	HostFSBase          Encoding = 0x6c06
	HostGSBase          Encoding = 0x6c08
	HostTRBase          Encoding = 0x6c0a
	HostGDTRBase        Encoding = 0x6c0c
	HostIDTRBase        Encoding = 0x6c0e
	HostIA32SysenterESP Encoding = 0x6c10
	HostIA32SysenterEIP Encoding = 0x6c12
	HostRSP             Encoding = 0x6c14
	HostRIP             Encoding = 0x6c16
	HostSCET            Encoding = 0x6c18
	HostSSP             Encoding = 0x6c1a
	HostIntrSSPTable    Encoding = 0x6c1c
)
