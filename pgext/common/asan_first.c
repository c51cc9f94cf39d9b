/*
 * Preloaded with AddressSanitizer's run-time library, which begins its work when memory is first asked for.
 * In a PostgreSQL server that is libgpg-error's constructor, inside bindtextdomain, under libc's lock of
 * message catalogs; and what the run-time library does first takes that lock, too. So memory is asked for
 * before: this library's constructors run first of all (-z initfirst).
 */
#include <stdlib.h>

__attribute__((constructor)) static void
begin(void)
{
	free(malloc(1));
}
