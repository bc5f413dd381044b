// Package cuda is the device that computes on an NVIDIA card. It is built with
// the tag cuda; without it Built is false, Devices finds none and Open refuses.
package cuda
