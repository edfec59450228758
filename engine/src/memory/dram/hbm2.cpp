// HBM2. JESD235D: 8 Gb per channel, pseudo-channel mode (64 bits, BL4) at 2 Gb/s; tRFC 350 ns, tRFCSB 160 ns, tREFI
// 3.9 us. tFAW is the vendors' 15 ns.
#include "memory/dram/standard.h"

namespace acalsim {

const DramStandard kHbm2{
    "HBM2",
    /*megatransfers*/ 2000,
    /*width*/ 8,
    {/*burst*/ 32,   /*row*/ 1024,  /*groups*/ 4,  /*banks*/ 4,   /*nBL*/ 2,   /*nCCDS*/ 2, /*nCCDL*/ 4,
     /*nCL*/ 14,     /*nCWL*/ 5,    /*nRCDRD*/ 14, /*nRCDWR*/ 12, /*nRP*/ 14,  /*nRAS*/ 34, /*nRTP*/ 5,
     /*nWR*/ 16,     /*nWTRS*/ 6,   /*nWTRL*/ 8,   /*nRRDS*/ 4,   /*nRRDL*/ 4, /*nFAW*/ 15, /*nRFC*/ 350,
     /*nRFCpb*/ 160, /*nREFI*/ 3900}};

}  // namespace acalsim
