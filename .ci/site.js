// Theme and search of the pandoc pages. Nothing is loaded from elsewhere: the index is search.js beside this file.
(() => {
  const up = document.currentScript.dataset.up, root = document.documentElement
  const dark = () => (root.dataset.theme || (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light')) === 'dark'
  try { if (localStorage.theme) root.dataset.theme = localStorage.theme } catch {}

  const words = s => s.toLowerCase().split(/\s+/).filter(Boolean)
  const escape = s => s.replace(/[&<>"]/g, c => `&#${c.charCodeAt()};`)
  let index = null
  const load = () => index ||= new Promise(done => {
    const s = document.createElement('script')
    s.src = up + 'search.js'
    s.onload = () => done(window.searchIndex.map(([url, page, head, text]) => ({url, page, head, text, low: text.toLowerCase(), top: (page + ' ' + head).toLowerCase()})))
    document.head.append(s)
  })

  function find(sections, query) {
    const ws = words(query)
    const score = s => ws.reduce((sum, w) => sum && (s.top.includes(w) ? sum + 10 : s.low.includes(w) ? sum + 1 : 0), 1)
    return sections.map(s => [score(s), s]).filter(([n]) => n).sort((a, b) => b[0] - a[0]).slice(0, 12).map(([, s]) => s)
  }
  function excerpt(s, query) {
    const at = Math.max(0, Math.min(...words(query).map(w => s.low.indexOf(w)).filter(i => i >= 0), s.text.length) - 30)
    const from = at < s.text.length - 30 ? at : 0
    return (from ? '…' : '') + s.text.slice(from, from + 110)
  }

  addEventListener('DOMContentLoaded', () => {
    const theme = document.getElementById('theme'), box = document.getElementById('search'), list = document.getElementById('found')
    const label = () => { theme.textContent = dark() ? '☀' : '☾'; theme.title = theme.ariaLabel = dark() ? 'Light colours' : 'Dark colours' }
    label()
    theme.onclick = () => { root.dataset.theme = dark() ? 'light' : 'dark'; try { localStorage.theme = root.dataset.theme } catch {}; label() }
    const show = async () => {
      const q = box.value.trim(), sections = await load()
      if (q !== box.value.trim()) return
      const got = q ? find(sections, q) : []
      list.innerHTML = got.map(s => `<li><a href="${up + s.url}"><b>${escape(s.head || s.page)}</b> <i>${escape(s.head ? s.page : '')}</i><br><small>${escape(excerpt(s, q))}</small></a></li>`).join('')
        || (q ? '<li><small>Nothing found</small></li>' : '')
    }
    box.onfocus = load
    box.oninput = show
    box.onkeydown = e => { if (e.key === 'Escape') { box.value = ''; show() } else if (e.key === 'Enter') list.querySelector('a')?.click() }
    document.addEventListener('keydown', e => { if (e.key === '/' && !/input|textarea/i.test(document.activeElement.tagName)) { e.preventDefault(); box.focus() } })
    const query = new URLSearchParams(location.search).get('q')
    if (query) { box.value = query; show() }
    if (matchMedia('(max-width: 48rem)').matches) document.getElementById('pages').open = false
    const now = document.querySelector('nav.side [aria-current]'), pane = now?.closest('nav > div')
    if (now && now.offsetTop > pane.clientHeight) pane.scrollTop = now.offsetTop - pane.clientHeight / 2
  })
})()
