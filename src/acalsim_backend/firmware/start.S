/* Reset: a0 is the hart, a1 the device tree or 0. Sets up registers, floating point, traps and .bss; never returns. */
    .section .text.init, "ax"
    .globl _start
    .type _start, @function
_start:
    bnez a0, park
    .option push
    .option norelax
    la gp, __global_pointer$
    .option pop
    la sp, __stack_top
    li t0, 0x2200               /* mstatus.FS and VS = Initial: floating point and vectors, where there are any, on */
    csrs mstatus, t0
    csrw fcsr, zero             /* round to nearest even, no flags */
    la t0, trap_entry
    csrw mtvec, t0
    la t0, __bss_start
    la t1, __bss_end
1:  bgeu t0, t1, 2f
    sd zero, 0(t0)
    addi t0, t0, 8
    j 1b
2:  mv a0, a1
    call acal_main
park:
    wfi
    j park
    .size _start, . - _start

    .balign 4
    .globl trap_entry
    .type trap_entry, @function
trap_entry:
    la sp, __trap_stack_top     /* the trap may have been an overflow of the stack */
    csrr a0, mcause
    csrr a1, mepc
    csrr a2, mtval
    call acal_trapped
    .size trap_entry, . - trap_entry
