package templates

// iconPaths are drawn on a 16×16 grid with a stroke of 1.6 (class ico).
var iconPaths = map[string]string{
	"pen":      `<path d="m3 13 .7-3L10.5 3.2a1.2 1.2 0 0 1 1.7 0l.6.6a1.2 1.2 0 0 1 0 1.7L6 12.3z"/>`,
	"down":     `<path d="m4 6 4 4 4-4"/>`,
	"link":     `<path d="M6.5 9.5 9.5 6.5M7 4.5l1.3-1.3a3 3 0 0 1 4.4 4.4L11.5 9M9 11.5l-1.3 1.3a3 3 0 0 1-4.4-4.4L4.5 7"/>`,
	"save":     `<path d="M8 2.5v7.5M5 7l3 3 3-3M3 11.5v2h10v-2"/>`,
	"theme":    `<circle cx="8" cy="8" r="5.5"/><path d="M8 2.5a5.5 5.5 0 0 1 0 11z" fill="currentColor"/>`,
	"more":     `<path d="M3.5 8h.01M8 8h.01M12.5 8h.01" stroke-width="2.4"/>`,
	"close":    `<path d="m4 4 8 8M12 4l-8 8"/>`,
	"warning":  `<path d="M8 2.5 14 13H2zM8 6.5v3M8 11.2v.01"/>`,
	"question": `<path d="M5.8 6a2.2 2.2 0 1 1 3.2 2c-.7.4-1 .8-1 1.6M8 12.2v.01"/>`,
	"book":     `<path d="M8 4.3C6.4 3.2 4.5 3 2.5 3v9.2c2 0 3.9.2 5.5 1.3 1.6-1.1 3.5-1.3 5.5-1.3V3c-2 0-3.9.2-5.5 1.3zM8 4.3v9"/>`,
}
