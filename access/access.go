// Package access says who may ask: a verdict on each request before anything is
// looked up. It is small now and has its place from the first day, so that
// limits and lists come before the cache and cost nothing where none is set.
package access
