/* Which instructions this processor offers, as far as compiled code may depend on them. */
#ifndef SL_CPU_H
#define SL_CPU_H

/* 16 hexadecimal digits and a NUL; the same on every core and in every run. */
void sl_cpu_fingerprint(char out[17]);

#endif
