// LPDDR5-6400. JESD209-5B: 16 Gb x16 device, bank-group mode, CK 800 MHz with WCK at 4:1; tRFCab 280 ns, tRFCpb 140 ns,
// tREFI 3906 ns. Write to read in one group counts BL/n_max (4) beside tWTR_L (10).
#include "memory/dram/standard.h"

namespace acalsim {

const DramStandard kLpddr5_6400{
    "LPDDR5-6400",
    /*megatransfers*/ 6400,
    /*width*/ 2,
    {/*burst*/ 32,   /*row*/ 2048,  /*groups*/ 4,  /*banks*/ 4,   /*nBL*/ 2,   /*nCCDS*/ 2, /*nCCDL*/ 4,
     /*nCL*/ 17,     /*nCWL*/ 9,    /*nRCDRD*/ 15, /*nRCDWR*/ 15, /*nRP*/ 15,  /*nRAS*/ 34, /*nRTP*/ 8,
     /*nWR*/ 28,     /*nWTRS*/ 5,   /*nWTRL*/ 12,  /*nRRDS*/ 4,   /*nRRDL*/ 4, /*nFAW*/ 16, /*nRFC*/ 224,
     /*nRFCpb*/ 112, /*nREFI*/ 3125}};

}  // namespace acalsim
