// What only the App can do: FiftyOne 1.22 has no operator that moves the playhead of a video. Not built: the
// App's own libraries are globals.
(() => {
  const { Operator, OperatorConfig, registerOperator } = window.__foo__;
  const SETTLED = 5000; // milliseconds in which a video that was just opened has loaded
  const CLOSED = 250; // milliseconds in which a window has closed

  // number: from 1. While annotating there is another player, out of reach: nothing happens.
  const goTo = (looker, number) => {
    if (!looker?.seekToFrame) return;
    const go = () => looker.seekToFrame(number);
    go();
    if (number === 1) return;
    // A video that is still being loaded cannot go anywhere, and when it can, the App's timeline sets it
    // back to its start.
    looker.addEventListener("load", go);
    const forget = looker.subscribeToState("frameNumber", (now) => now === 1 && setTimeout(go));
    setTimeout(() => {
      looker.removeEventListener("load", go);
      forget();
    }, SETTLED);
  };

  class GoToFrame extends Operator {
    get config() {
      return new OperatorConfig({ name: "go_to_frame", label: "Go to frame", unlisted: true });
    }

    useHooks() {
      return { looker: window.recoil.useRecoilValue(window.__fos__.modalLooker) };
    }

    async execute({ hooks: { looker }, params }) {
      goTo(looker, params.frame_number);
    }
  }

  // An open window does not show new fields; opened again, it does.
  class ReopenSample extends Operator {
    get config() {
      return new OperatorConfig({ name: "reopen_sample", label: "Reopen sample", unlisted: true });
    }

    useHooks() {
      const looker = window.React.useRef();
      looker.current = window.recoil.useRecoilValue(window.__fos__.modalLooker);
      return { looker, close: window.__fos__.useClearModal(), open: window.__fos__.useSetExpandedSample() };
    }

    async execute({ hooks: { looker, close, open }, params }) {
      const before = looker.current;
      const number = before?.frameNumber ?? 1;
      await close();
      await new Promise((resolve) => setTimeout(resolve, CLOSED));
      await open({ id: params.id });
      for (let waited = 0; waited < SETTLED; waited += CLOSED) {
        await new Promise((resolve) => setTimeout(resolve, CLOSED));
        if (looker.current && looker.current !== before) {
          goTo(looker.current, number);
          break;
        }
      }
    }
  }

  for (const operator of [GoToFrame, ReopenSample]) registerOperator(operator, "@colortrack/fiftyone-colortrack");
})();
