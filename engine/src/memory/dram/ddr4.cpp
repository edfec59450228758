// DDR4-2400. JESD79-4: 8 Gb x8 devices, speed bin 2400R; 64-bit channel; tRFC1 350 ns, tREFI 7.8 us, tFAW for 1 KiB
// pages.
#include "memory/dram/standard.h"

namespace acalsim {

const DramStandard kDdr4_2400{
    "DDR4-2400",
    /*megatransfers*/ 2400,
    /*width*/ 8,
    {/*burst*/ 64, /*row*/ 8192,  /*groups*/ 4,  /*banks*/ 4,   /*nBL*/ 4,   /*nCCDS*/ 4, /*nCCDL*/ 6,
     /*nCL*/ 16,   /*nCWL*/ 12,   /*nRCDRD*/ 16, /*nRCDWR*/ 16, /*nRP*/ 16,  /*nRAS*/ 39, /*nRTP*/ 9,
     /*nWR*/ 18,   /*nWTRS*/ 3,   /*nWTRL*/ 9,   /*nRRDS*/ 4,   /*nRRDL*/ 6, /*nFAW*/ 26, /*nRFC*/ 420,
     /*nRFCpb*/ 0, /*nREFI*/ 9360}};

}  // namespace acalsim
