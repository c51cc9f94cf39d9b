/** A value whose meaning the compiler tracks: two brands of one base type do not mix. */
export type Brand<T, Name extends string> = T & { readonly __brand: Name };
